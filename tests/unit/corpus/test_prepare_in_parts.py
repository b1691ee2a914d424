"""One corpus by one process, by several, by shards in any order, after kill -9, shuffled: the same documents, the same bytes."""

import gzip
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE_SECONDS

from codemix_megatron.corpus import parts, shuffling
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.parts import Shard
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.errors import CorpusError
from codemix_megatron.filters import exact_duplicates
from codemix_megatron.recipe.filtering import FilterSpec, NearDuplicates

HOW = HowToPrepare(held_out_share=0.1, max_bad_share=0.01)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 4 kB, so that a small file has many."""
    monkeypatch.setattr(parts, "PART_BYTES", 4096)


@pytest.fixture
def many_texts(write_lines) -> Path:
    """Six hundred lines: duplicates near and far, an empty text, two damaged lines, three languages."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    lines = [{"text": f"{words[i % 9]} {i % 500} " * (1 + i % 7), "lang": ["go", "rust", "c"][i % 3]} for i in range(600)]
    lines[40], lines[41], lines[300], lines[555] = lines[39], {"text": " "}, b'{"text": "cut', b"\xff"
    return write_lines(lines)


def checksums(spec) -> list[str]:
    return [hashlib.sha256(Path(f"{spec.prefix}{end}").read_bytes()).hexdigest() for end in (".bin", ".idx", ".languages.npy")]


def told(manifest) -> tuple:
    """Return what a manifest says, but for where and when."""
    return replace(manifest, prefix="", created_at="", name="")


@pytest.fixture
def at_once(many_texts, spec_for, tokenizer):
    """The corpus as one process makes it: (spec, manifest, checksums)."""
    spec = spec_for(many_texts, kind="code", prefix="one/corpus")
    manifest = prepare_corpus("x", spec, tokenizer, HOW)
    return spec, manifest, checksums(spec)


def test_shards_in_any_order_and_a_merge_equal_one_process(at_once, many_texts, spec_for, tokenizer):
    spec = spec_for(many_texts, kind="code", prefix="two/corpus")
    for index in (2, 0, 1):
        assert prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(index, 3))) is None
        assert not Path(f"{spec.prefix}.bin").exists()
    manifest = prepare_corpus("x", spec, tokenizer, replace(HOW, only_merge=True))
    assert checksums(spec) == at_once[2]
    assert told(manifest) == told(at_once[1])
    assert sorted(path.name for path in Path(spec.prefix).parent.iterdir()) == sorted(
        path.name for path in Path(at_once[0].prefix).parent.iterdir()
    )


def test_merge_names_what_is_missing(many_texts, spec_for, tokenizer):
    spec = spec_for(many_texts)
    prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(0, 3)))
    with pytest.raises(CorpusError, match=r"corpora\.x: \d+ of \d+ parts are not done \(such as part 1\); run the shards"):
        prepare_corpus("x", spec, tokenizer, replace(HOW, only_merge=True))


def test_worker_processes_equal_one_process(at_once, many_texts, spec_for, tokenizer):
    spec = spec_for(many_texts, kind="code", prefix="two/corpus")
    states = []
    prepare_corpus("x", spec, tokenizer, replace(HOW, workers=2, progress=states.append))
    assert checksums(spec) == at_once[2]
    assert states[-1].bytes_read == states[-1].total_bytes == many_texts.stat().st_size


def test_nothing_is_lost_or_doubled_by_parts(many_texts, spec_for, tokenizer, at_once, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 1 << 30)
    spec = spec_for(many_texts, kind="code", prefix="two/corpus")
    manifest = prepare_corpus("x", spec, tokenizer, HOW)
    assert checksums(spec) == at_once[2]
    assert manifest.dropped == at_once[1].dropped
    assert manifest.num_documents + sum(manifest.dropped.values()) == 600


def test_finished_parts_are_taken_up_and_damaged_ones_done_again(at_once, many_texts, spec_for, tokenizer):
    spec = spec_for(many_texts, kind="code", prefix="two/corpus")
    prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(0, 1)))
    (folder,) = Path(spec.prefix).parent.glob(".corpus.parts-*")
    (folder / "00003.tokens").write_bytes(b"cut")
    (folder / "00004.done").unlink()
    said = []
    manifest = prepare_corpus("x", spec, tokenizer, replace(HOW, say=said.append))
    num_parts = len(list(range(0, many_texts.stat().st_size, 4096)))
    assert said == [f"x: {num_parts - 2} of {num_parts} parts were done before", "x: part 3 is made again, 00003.tokens is damaged"]
    assert checksums(spec) == at_once[2]
    assert told(manifest) == told(at_once[1])


def test_shuffled_documents_are_the_same_in_another_order(at_once, many_texts, spec_for, tokenizer, monkeypatch):
    def documents(spec):
        reader = IndexedReader(spec.prefix)
        return [tuple(reader.document(i).tolist()) for i in range(len(reader))]

    in_order, made = documents(at_once[0]), {}
    for name, seed, bucket_bytes in (("a", 1, 1 << 20), ("b", 1, 500), ("c", 2, 1 << 20)):
        monkeypatch.setattr(shuffling, "BUCKET_BYTES", bucket_bytes)
        spec = spec_for(many_texts, kind="code", prefix=f"{name}/corpus", shuffle=True)
        manifest = prepare_corpus("x", spec, tokenizer, replace(HOW, seed=seed))
        made[name] = documents(spec)
        assert sorted(made[name]) == sorted(in_order)
        assert sorted(made[name][: manifest.train_documents]) == sorted(in_order[: manifest.train_documents])
        assert manifest.shuffle_seed == seed
        counts = np.bincount(np.load(f"{spec.prefix}.languages.npy"), minlength=3)
        assert counts.tolist() == np.bincount(np.load(f"{at_once[0].prefix}.languages.npy"), minlength=3).tolist()
    assert made["a"] == made["b"] != made["c"]
    assert made["a"] != in_order != made["c"]


def test_duplicates_are_found_alike_however_many_fit_into_memory(at_once, many_texts, spec_for, tokenizer, monkeypatch):
    monkeypatch.setattr(exact_duplicates, "SORTED_AT_ONCE", 16)
    spec = spec_for(many_texts, kind="code", prefix="two/corpus")
    manifest = prepare_corpus("x", spec, tokenizer, HOW)
    assert checksums(spec) == at_once[2]
    assert manifest.dropped == at_once[1].dropped


@pytest.mark.parametrize("wrong", ["3/3", "-1/3", "1", "a/b", "0/0"])
def test_shard_that_is_none_is_told_what_is_allowed(wrong):
    with pytest.raises(CorpusError, match=rf"--shard: found {wrong}, allowed are 0/n to n-1/n"):
        Shard.parse(wrong)


def test_two_commands_do_not_write_one_corpus(many_texts, spec_for, tokenizer):
    spec = spec_for(many_texts)

    def meanwhile(_):
        with pytest.raises(CorpusError, match="another command is writing it") as caught:
            prepare_corpus("x", spec, tokenizer, HOW)
        assert caught.value.exit_code == 1

    prepare_corpus("x", spec, tokenizer, replace(HOW, progress=meanwhile))


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_the_same_command_goes_on(at_once, many_texts, spec_for, tokenizer, tokenizer_path, workers, tmp_path):
    spec = spec_for(many_texts, kind="code", prefix="two/corpus")
    code = f"""
import json, sys, time
from codemix_megatron.corpus import parts
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.recipe.schema import CorpusSpec
if __name__ == "__main__":
    parts.PART_BYTES = 4096
    spec = CorpusSpec(**json.loads(sys.argv[1]))
    how = HowToPrepare(held_out_share=0.1, max_bad_share=0.01, workers={workers}, progress=lambda state: time.sleep(0.05))
    prepare_corpus("x", spec, load_tokenizer({str(tokenizer_path)!r}), how)
"""
    (tmp_path / "prepare.py").write_text(code)
    plain = json.dumps({"kind": "code", "documents": [str(many_texts)], "prefix": spec.prefix})
    process = subprocess.Popen([sys.executable, tmp_path / "prepare.py", plain], start_new_session=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (done := list(Path(spec.prefix).parent.glob(".*/*.done"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(200):  # workers notice that they are alone
        if not members(process.pid):
            break
        time.sleep(0.05)
    assert not members(process.pid)
    assert not Path(f"{spec.prefix}.bin").exists()
    assert done
    prepare_corpus("x", spec, tokenizer, HOW)
    assert checksums(spec) == at_once[2]


def members(session: int) -> list[int]:
    """Return the living processes of a session."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_filters_and_near_duplicates_are_decided_in_document_order_however_the_work_is_divided(
    write_lines, spec_for, tokenizer, monkeypatch
):
    words = [f"word{i}" for i in range(23)]
    texts = [" ".join(f"{word}z{i % 40}" for word in words) + ("" if i < 40 else f" again {i}") for i in range(120)]
    texts[5] += " 0xff"
    path = write_lines([{"text": text} for text in texts])
    filters = FilterSpec(hexadecimal=True, near_duplicates=NearDuplicates())
    seen = []
    for name, part_bytes in (("one", 1 << 20), ("two", 1500)):
        monkeypatch.setattr(parts, "PART_BYTES", part_bytes)
        spec = spec_for(path, prefix=f"{name}/corpus", filters=filters)
        manifest = prepare_corpus("x", spec, tokenizer, replace(HOW, workers=1))
        seen.append((manifest.bin_sha256, manifest.dropped))
        assert manifest.dropped == {"near duplicate": 79, "0x": 1}
        assert manifest.filters["hexadecimal"] is True
        assert manifest.filters["near_duplicates"]["similarity"] == 0.7
        assert manifest.dropped_examples["0x"][0].startswith("0xff: word0z5 word1z5")
        assert manifest.dropped_places == {"0x": [f"{path}:6"], "near duplicate": [f"{path}:{line}" for line in (41, 42, 43, 44, 45)]}
    assert seen[0] == seen[1]
    said = []
    prepare_corpus("x", replace(spec, filters=FilterSpec()), tokenizer, replace(HOW, say=said.append))
    assert said == ["x: preparing again, its filters have changed"]


def test_killed_worker_is_told_and_the_rest_of_its_work_is_kept(at_once, many_texts, spec_for, tokenizer, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 256)  # so many that no worker is done before it is killed
    spec = spec_for(many_texts, kind="code", prefix="two/corpus")

    def kill_one(_):
        for worker in multiprocessing.active_children()[:1]:
            worker.kill()

    with pytest.raises(CorpusError, match="a worker process ended early .killed by signal 9") as caught:
        prepare_corpus("x", spec, tokenizer, replace(HOW, workers=2, progress=kill_one))
    assert caught.value.exit_code == 1
    assert not Path(f"{spec.prefix}.bin").exists()
    prepare_corpus("x", spec, tokenizer, HOW)
    assert checksums(spec) == at_once[2]


def test_error_in_a_worker_reaches_the_user(many_texts, spec_for, tokenizer, tmp_path):
    many_texts.rename(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 1000)[:60])
    with pytest.raises(CorpusError, match=r"b\.jsonl\.gz: damaged archive"):
        prepare_corpus("x", spec_for(tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"), tokenizer, replace(HOW, workers=2))


def test_corpus_equals_what_megatrons_builder_writes_of_the_same_documents(at_once, tmp_path):
    megatron = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    reader = IndexedReader(at_once[0].prefix)
    builder = megatron.IndexedDatasetBuilder(
        str(tmp_path / "theirs.bin"), dtype=megatron.DType.optimal_dtype(at_once[1].tokenizer.vocab_size)
    )
    for i in range(len(reader)):
        builder.add_document(reader.document(i), [len(reader.document(i))])
    builder.finalize(str(tmp_path / "theirs.idx"))
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"theirs{suffix}").read_bytes() == Path(f"{at_once[0].prefix}{suffix}").read_bytes()
