"""Exact and near duplicates decided by DuckDB on one machine, in memory that does not grow with the documents: it spills to disk.

The decisions are those of `exact_duplicates` and `near_duplicates`. Near ones need documents compared in order, each with the first that
stays under each of its keys; documents that no chain of shared keys connects have no say in each other's fate. So DuckDB
finds the keys that are shared and what they connect, and each such component is decided by itself, by the same code.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from codemix_megatron.cores import available_cores
from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.near_duplicates import band_keys, decide, rows_per_band
from codemix_megatron.recipe.filtering import NearDuplicates

__all__ = ["find_duplicates_by_duckdb", "find_near_duplicates_by_duckdb"]

MEMORY_MIB = 1024  # DuckDB's own; what is more goes to files in the scratch folder
ROWS_AT_ONCE = 1 << 17
ROWS_DECIDED_TOGETHER = 1 << 18  # pairs of a document and a shared key, as Python objects: some 100 MB

DUPLICATES = """
SELECT document FROM digests JOIN (
    SELECT high, low, min(document) AS first FROM digests GROUP BY high, low HAVING count(*) > 1
) USING (high, low) WHERE document > first"""
SHARED_KEYS = """
INSERT INTO shared SELECT document, $band, key FROM keys WHERE key IN (SELECT key FROM keys GROUP BY key HAVING count(*) > 1)"""
# The least document that is reached over one key, and over the label of that label: paths of any length end after as many doublings.
NEXT_LABELS = """
CREATE OR REPLACE TABLE reached AS SELECT document, min(least) AS label FROM shared JOIN (
    SELECT band, key, min(label) AS least FROM shared JOIN labels USING (document) GROUP BY band, key
) USING (band, key) GROUP BY document"""
JUMP = """
CREATE OR REPLACE TABLE jumped AS SELECT reached.document, least(reached.label, beyond.label) AS label
FROM reached JOIN reached AS beyond ON reached.label = beyond.document"""
CHANGES = "SELECT count(*) FROM jumped JOIN labels USING (document) WHERE jumped.label != labels.label"
IN_ORDER = """
SELECT label % $buckets AS bucket, document, band, key FROM shared JOIN labels USING (document) ORDER BY bucket, document, band"""


def find_duplicates_by_duckdb(blocks: Iterable[np.ndarray], total: int, scratch: Path) -> np.ndarray:
    """Return for each of `total` digests (blocks of V16) whether an equal one came before."""
    duplicate = np.zeros(total, dtype=bool)
    with database(scratch) as engine:
        engine.execute("CREATE TABLE digests (document BIGINT, high UBIGINT, low UBIGINT)")
        begin = 0
        for digests in blocks:
            halves = np.ascontiguousarray(digests).view("<u8").reshape(-1, 2)
            insert(engine, "digests", document=np.arange(begin, begin + len(halves)), high=halves[:, 0], low=halves[:, 1])
            begin += len(halves)
        for (rows,) in column_batches(engine.sql(DUPLICATES)):
            duplicate[rows] = True
    return duplicate


def find_near_duplicates_by_duckdb(signatures: np.ndarray, spec: NearDuplicates, num_fixed: int, scratch: Path) -> np.ndarray:
    """Return, for each document in order, the earlier document it is nearly a copy of, or -1 when it stays; int64 [documents].

    `signatures` is uint8 [documents, permutations], a memory map; the first `num_fixed` stay whatever they are like.
    """
    signatures = signatures.reshape(-1, spec.permutations)
    original = np.full(len(signatures), -1, dtype=np.int64)
    with database(scratch) as engine:
        engine.execute("CREATE TABLE shared (document BIGINT, band USMALLINT, key UBIGINT)")
        for band in range(spec.permutations // rows_per_band(spec)):
            collect_shared_keys(engine, signatures, band, rows_per_band(spec))
        label_components(engine)
        for candidates in components(engine):
            for document, other in decide(signatures, candidates, spec, num_fixed):
                original[document] = other
    return original


def collect_shared_keys(engine: Any, signatures: np.ndarray, band: int, rows: int) -> None:
    """Add to `shared` the keys of one band that more than one document has."""
    engine.execute("CREATE OR REPLACE TABLE keys (document BIGINT, key UBIGINT)")
    for begin in range(0, len(signatures), ROWS_AT_ONCE):
        some = np.asarray(signatures[begin : begin + ROWS_AT_ONCE])
        insert(engine, "keys", document=np.arange(begin, begin + len(some)), key=band_keys(some, band, rows))
    engine.execute(SHARED_KEYS, {"band": band})
    engine.execute("DROP TABLE keys")


def label_components(engine: Any) -> None:
    """Give each document in `shared` the least document that a chain of shared keys connects it with, in `labels`."""
    engine.execute("CREATE TABLE labels AS SELECT DISTINCT document, document AS label FROM shared")
    while True:
        engine.execute(NEXT_LABELS)
        engine.execute(JUMP)
        ((changes,),) = engine.execute(CHANGES).fetchall()
        engine.execute("CREATE OR REPLACE TABLE labels AS SELECT * FROM jumped")
        if not changes:
            return


def components(engine: Any) -> Iterator[dict[int, list[tuple[int, int]]]]:
    """Yield document -> (band, key) of those it shares, of whole components, as many together as fit."""
    ((num_rows,),) = engine.execute("SELECT count(*) FROM shared").fetchall()
    batches = column_batches(engine.sql(IN_ORDER, params={"buckets": max(1, num_rows // ROWS_DECIDED_TOGETHER)}))
    rows = itertools.chain.from_iterable(zip(*(column.tolist() for column in batch), strict=True) for batch in batches)
    for _, of_bucket in itertools.groupby(rows, key=lambda row: row[0]):
        candidates: dict[int, list[tuple[int, int]]] = {}
        for _, document, band, key in of_bucket:
            candidates.setdefault(document, []).append((band, key))
        yield candidates


@contextmanager
def database(scratch: Path) -> Iterator[Any]:
    """Give a database in a folder, which is removed with all that was spilled."""
    try:
        import duckdb
    except ImportError:
        raise CorpusError("deciding duplicates by DuckDB needs its package: pip install 'codemix_megatron[scale]'") from None
    path = scratch / "duplicates.duckdb"
    remove(path)
    engine = duckdb.connect(str(path))
    try:
        engine.execute(f"SET memory_limit = '{MEMORY_MIB}MiB'")
        engine.execute(f"SET threads = {available_cores()}")
        engine.execute("SET preserve_insertion_order = false")
        yield engine
    except duckdb.Error as fault:
        raise CorpusError(f"{scratch}: DuckDB could not decide duplicates ({str(fault).splitlines()[0][:300]})") from fault
    finally:
        engine.close()
        remove(path)


def remove(path: Path) -> None:
    """Remove a database and its log; DuckDB removes what it spilled itself."""
    for suffix in ("", ".wal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def insert(engine: Any, table: str, **columns: np.ndarray) -> None:
    """Append rows to a table."""
    import pyarrow

    engine.register("rows_to_insert", pyarrow.table(columns))
    engine.execute(f"INSERT INTO {table} SELECT {', '.join(columns)} FROM rows_to_insert")
    engine.unregister("rows_to_insert")


def column_batches(found: Any) -> Iterator[list[np.ndarray]]:
    """Yield the columns of a result, some rows at a time."""
    for batch in found.to_arrow_reader(ROWS_AT_ONCE):
        yield [column.to_numpy(zero_copy_only=False) for column in batch.columns]
