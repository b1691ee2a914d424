"""DuckDB, and stages of workers that share a folder, decide as memory does.

Judges: for exact duplicates a dictionary of Python, for near ones the documents compared one by one in order.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from codemix_megatron.corpus import parts
from codemix_megatron.corpus.finishing import DECIDERS
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.filters import duplicates_by_duckdb as by_duckdb
from codemix_megatron.filters import duplicates_in_stages as in_stages
from codemix_megatron.filters.near_duplicates import band_keys, estimated_similarity, find_near_duplicates, rows_per_band
from codemix_megatron.recipe.filtering import FilterSpec, NearDuplicates

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'codemix_megatron[scale]'")
SPEC = NearDuplicates()


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    """As few rows at once as make many steps of a small number of documents."""
    monkeypatch.setattr(by_duckdb, "ROWS_AT_ONCE", 97)
    monkeypatch.setattr(by_duckdb, "ROWS_DECIDED_TOGETHER", 50)
    monkeypatch.setattr(in_stages, "DOCUMENTS_AT_ONCE", 97)
    monkeypatch.setattr(in_stages, "ROWS_OF_A_PARTITION", 1500)
    monkeypatch.setattr(in_stages, "ROWS_OF_A_BUCKET", 50)


ENGINES = {
    "duckdb": (by_duckdb.find_duplicates_by_duckdb, by_duckdb.find_near_duplicates_by_duckdb),
    "stages": (in_stages.find_duplicates_in_stages, in_stages.find_near_duplicates_in_stages),
}


def near_duplicates(engine: str, signatures: np.ndarray, num_fixed: int, folder: Path) -> list[int]:
    """Return the decisions of an engine on signatures in a file."""
    path, scratch = folder / "signatures", folder / "scratch"
    signatures.tofile(path)
    scratch.mkdir()
    mapped = np.memmap(path, dtype=np.uint8, mode="r") if signatures.size else np.empty(0, np.uint8)
    found = ENGINES[engine][1](mapped, SPEC, num_fixed, scratch).tolist()
    assert list(scratch.iterdir()) == [], "all scratch files are removed"
    return found


def one_by_one(signatures: np.ndarray, num_fixed: int) -> list[int]:
    """Return the decisions by definition: compared with the first that stays under each key, in order, without any index."""
    rows = rows_per_band(SPEC)
    keys = [band_keys(signatures, band, rows) for band in range(SPEC.permutations // rows)]
    first: list[dict[int, int]] = [{} for _ in keys]
    original = []
    for document in range(len(signatures)):
        met = sorted({seen[int(of_band[document])] for seen, of_band in zip(first, keys, strict=True) if int(of_band[document]) in seen})
        alike = [other for other in met if estimated_similarity(signatures[document], signatures[other]) >= SPEC.similarity]
        original.append(alike[0] if alike and document >= num_fixed else -1)
        if original[-1] < 0:
            for seen, of_band in zip(first, keys, strict=True):
                seen.setdefault(int(of_band[document]), document)
    return original


def with_copies(num: int, seed: int) -> np.ndarray:
    """Return signatures of which a third are copies, or copies of copies, with up to half of their positions changed."""
    draw = np.random.default_rng(seed)
    signatures = draw.integers(0, 256, (num, SPEC.permutations), dtype=np.uint8)
    for document in range(num // 2, num):
        changed = draw.random(SPEC.permutations) < draw.uniform(0, 0.5)
        if draw.random() < 0.6:
            signatures[document] = np.where(changed, signatures[document], signatures[draw.integers(0, document)])
    return signatures[draw.permutation(num)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("num_fixed", [0, 150])
def test_near_duplicates_are_those_of_comparing_one_by_one(tmp_path, num_fixed, engine):
    signatures = with_copies(600, 5)
    found = near_duplicates(engine, signatures, num_fixed, tmp_path)
    assert found == one_by_one(signatures, num_fixed) == find_near_duplicates(signatures, SPEC, num_fixed).tolist()
    assert sum(other >= 0 for other in found) > 50


@pytest.mark.parametrize("engine", ENGINES)
def test_a_long_chain_of_small_changes_is_one_component_and_decided_in_order(tmp_path, engine):
    """Each of 200 is nearly a copy of the one before it: those that stay are far apart, and all hang together."""
    draw = np.random.default_rng(2)
    chain = [draw.integers(0, 256, SPEC.permutations, dtype=np.uint8)]
    for step in range(199):
        chain.append(chain[-1].copy())
        chain[-1][(7 * step) % 128 : (7 * step) % 128 + 7] += 1
    signatures = np.array(chain)
    found = near_duplicates(engine, signatures, 0, tmp_path)
    assert found == one_by_one(signatures, 0) and 10 < found.count(-1) < 100


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("num", [0, 1, 1000])
def test_exact_duplicates_are_all_but_the_first(tmp_path, num, engine):
    draw = np.random.default_rng(7)
    digests = np.frombuffer(draw.integers(0, 1 << 64, (400, 2), dtype=np.uint64).tobytes(), "V16")[draw.integers(0, 400, num)]
    seen: dict[bytes, int] = {}
    wanted = [seen.setdefault(digest.tobytes(), index) < index for index, digest in enumerate(digests)]
    found = ENGINES[engine][0](np.array_split(digests, 7), num, tmp_path)
    assert found.tolist() == wanted and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("num", [0, 1, 50])
def test_signatures_without_any_shared_key_stay(tmp_path, engine, num):
    apart = np.random.default_rng(1).integers(0, 256, (num, 128), dtype=np.uint8)
    assert near_duplicates(engine, apart, 0, tmp_path) == [-1] * num


@pytest.mark.parametrize("by", ["duckdb", "stages", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_corpus_has_the_same_bytes_whatever_decides(write_lines, spec_for, tokenizer, monkeypatch, by):
    """Ray's are workers of a local cluster, which share nothing but the scratch folder."""
    if by == "ray":
        pytest.importorskip("ray", reason="ray is not installed: pip install 'codemix_megatron[ray]'")
    monkeypatch.setitem(DECIDERS, "stages", ENGINES["stages"])
    monkeypatch.setattr(parts, "PART_BYTES", 4096)
    words = [f"word{i}" for i in range(60)]
    texts = [" ".join(words[i % 7 :] + [f"only{i // 3}"] * (i % 2)) for i in range(80)] * 2
    path = write_lines([{"text": text} for text in texts])
    filters = FilterSpec(near_duplicates=SPEC)
    made = []
    for name in ("memory", by):
        spec, how = spec_for(path, prefix=f"out/{name}", filters=filters), HowToPrepare(held_out_share=0.2, duplicates_by=name)
        made.append(prepare_corpus("x", spec, tokenizer, how))
    for suffix in (".bin", ".idx", ".documents.npy", ".signatures.npy"):
        assert Path(made[0].prefix + suffix).read_bytes() == Path(made[1].prefix + suffix).read_bytes(), suffix
    assert made[0].dropped == made[1].dropped and set(made[0].dropped) == {"duplicate", "near duplicate"}
    told = [json.loads(Path(f"{m.prefix}.manifest.json").read_text()) for m in made]
    different = {key for key in told[0] if told[0][key] != told[1][key]}
    assert different <= {"prefix", "created_at", "checksum"}
