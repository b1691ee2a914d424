"""PREFIX.scores.parquet: a row for each document of a corpus, in its order, and a column of numbers for each score.

Columns are double, null where a document has no such score. Its checksum stands in the manifest with what each column was made by.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import writing
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.manifest import CorpusManifest, read_remote_bytes, scores_path

__all__ = ["check_score_table", "kept_scores", "read_score", "read_scores", "write_scores"]

AGAIN = "write the scores again with `codemix score`"


def write_scores(manifest: CorpusManifest, columns: Mapping[str, np.ndarray], made_by: Mapping[str, dict]) -> CorpusManifest:
    """Write a table of these columns alone, NaN where there is none, and the manifest that says so; return that manifest."""
    import pyarrow as pa
    from pyarrow import parquet

    arrays = {name: pa.array(np.asarray(values, dtype=np.float64), mask=np.isnan(values)) for name, values in columns.items()}
    with writing(scores_path(manifest.prefix), "wb") as handle:
        parquet.write_table(pa.table(arrays), handle, compression="zstd")
    told = {name: {**made_by[name], **described(values)} for name, values in columns.items()}
    written = replace(manifest, scores_sha256=file_sha256(scores_path(manifest.prefix)), scores=told)
    written.write()
    return written


def described(values: np.ndarray) -> dict:
    """Return what a manifest says of a column's numbers."""
    known = values[~np.isnan(values)]
    return {"documents": len(known), "mean": float(known.mean()) if len(known) else None}


def read_scores(manifest: CorpusManifest, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Return column -> a number for each document, NaN where it has none; all columns by default. Raises CorpusError."""
    import pyarrow as pa
    from pyarrow import parquet

    path = scores_path(manifest.prefix)
    if not manifest.scores_sha256:
        raise CorpusError(f"{manifest.prefix}: its documents have no scores; run `codemix score {manifest.prefix}` first")
    if missing := [name for name in names or () if name not in manifest.scores]:
        raise CorpusError(f"{path}: no column {', '.join(missing)}; there are {', '.join(manifest.scores)}")
    try:
        data = read_remote_bytes(path) if "://" in path else Path(path).read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != manifest.scores_sha256:
            raise CorpusError(f"{path}: sha256 is {found[:12]}, its manifest says {manifest.scores_sha256[:12]}; {AGAIN}")
        table = parquet.read_table(pa.BufferReader(data), columns=names)
    except (OSError, pa.ArrowException) as fault:
        raise CorpusError(f"{path}: cannot be read ({fault}); {AGAIN}") from None
    if table.num_rows != manifest.num_documents:
        raise CorpusError(f"{path}: {table.num_rows} rows, the corpus has {manifest.num_documents} documents; {AGAIN}")
    return {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}


def read_score(manifest: CorpusManifest, name: str) -> np.ndarray:
    """Return one column, of the documents that are trained on."""
    return read_scores(manifest, [name])[name][: manifest.train_documents]


def kept_scores(old: CorpusManifest, new: CorpusManifest, kept: np.ndarray) -> CorpusManifest:
    """Write the scores of the documents that are kept beside a new corpus; return its manifest, written."""
    columns = {name: values[kept] for name, values in read_scores(old).items()}
    return write_scores(new, columns, old.scores)


def check_score_table(manifest: CorpusManifest) -> str | None:
    """Say what is wrong with a corpus's scores; None where nothing is, or there are none."""
    if not manifest.scores_sha256:
        return None
    try:
        columns = read_scores(manifest)
    except CorpusError as fault:
        return str(fault)
    told = {name: {**manifest.scores.get(name, {}), **described(values)} for name, values in columns.items()}
    return (
        None if told == manifest.scores else f"{scores_path(manifest.prefix)}: its columns are not those that the manifest counts; {AGAIN}"
    )
