"""From documents to a corpus: what is counted, what is left out, what happens the second time and when it fails."""

import dataclasses
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codemix_megatron.corpus import parts, preparation
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import CorpusManifest


def prepare(spec, tokenizer, held_out_share: float, name: str = "x", **how) -> CorpusManifest:
    return prepare_corpus(name, spec, tokenizer, HowToPrepare(held_out_share=held_out_share, **how))


def files_in(folder) -> list[str]:
    """All but the hidden folder of parts that are done."""
    return sorted(path.name for path in Path(folder).iterdir() if path.is_file()) if Path(folder).exists() else []


def texts_of(manifest, tokenizer) -> list[str]:
    reader = IndexedReader(manifest.prefix)
    return [tokenizer.decode(reader.document(i)[:-1]) for i in range(reader.num_documents)]


def test_documents_come_back_byte_for_byte_in_order(write_lines, spec_for, tokenizer):
    texts = ["tab\tnul\0", "Grüße 你好 👩‍👩‍👧\r\n", "a<|endoftext|>b", "  \n x"]
    manifest = prepare(spec_for(write_lines([{"text": text} for text in texts])), tokenizer, 0.0)
    assert texts_of(manifest, tokenizer) == texts
    reader = IndexedReader(manifest.prefix)
    ends = np.flatnonzero(np.asarray(reader.tokens(0, reader.num_tokens)) == tokenizer.end_of_document_id)
    assert (ends + 1).tolist() == np.cumsum(reader.document_lengths).tolist()


def test_manifest_counts_what_is_in_the_files(hundred_texts, spec_for, tokenizer):
    manifest = prepare(spec_for(hundred_texts, kind="synthetic"), tokenizer, 0.1)
    reader = IndexedReader(manifest.prefix)
    assert (manifest.num_documents, manifest.num_tokens) == (reader.num_documents, reader.num_tokens)
    assert manifest.num_bytes == sum(len(text.encode()) for text in texts_of(manifest, tokenizer))
    assert (manifest.name, manifest.kind, manifest.dtype, manifest.documents) == ("x", "synthetic", "uint16", [str(hundred_texts)])
    for suffix, checksum in ((".bin", manifest.bin_sha256), (".idx", manifest.idx_sha256)):
        assert hashlib.sha256(Path(manifest.prefix + suffix).read_bytes()).hexdigest() == checksum
    assert CorpusManifest.read(manifest.prefix) == manifest
    assert files_in(Path(manifest.prefix).parent) == [
        "corpus.bin",
        "corpus.documents.npy",
        "corpus.documents.tsv.zst",
        "corpus.idx",
        "corpus.manifest.json",
    ]


def test_large_vocabularies_are_written_as_int32(hundred_texts, spec_for, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "metadata", dataclasses.replace(tokenizer.metadata, vocab_size=65500))
    manifest = prepare(spec_for(hundred_texts), tokenizer, 0.1)
    assert manifest.dtype == "int32"
    assert len(texts_of(manifest, tokenizer)) == 100


def test_duplicates_and_empty_texts_are_left_out_and_counted(write_lines, spec_for, tokenizer):
    path = write_lines([{"text": t} for t in ("a", "b", "a", "", "a", " \n", "c")])
    manifest = prepare(spec_for(path), tokenizer, 0.0)
    assert texts_of(manifest, tokenizer) == ["a", "b", "c"]
    assert manifest.dropped == {"duplicate": 2, "empty text": 2}
    assert manifest.dropped_places == {"duplicate": [f"{path}:3", f"{path}:5"], "empty text": [f"{path}:4", f"{path}:6"]}


def test_a_document_across_files_is_kept_once(write_lines, spec_for, tokenizer):
    one, two = write_lines([{"text": "a"}], "1.jsonl"), write_lines([{"text": "a"}, {"text": "b"}], "2.jsonl")
    assert texts_of(prepare(spec_for(one, two), tokenizer, 0.0), tokenizer) == ["a", "b"]


def test_only_the_first_locations_are_kept(write_lines, spec_for, tokenizer):
    manifest = prepare(spec_for(write_lines([{"text": "a"}] * 20)), tokenizer, 0.0)
    assert manifest.dropped == {"duplicate": 19}
    assert len(manifest.dropped_places["duplicate"]) == 5


def test_languages_are_counted_the_largest_first(write_lines, spec_for, tokenizer):
    path = write_lines([{"text": "x", "lang": "go"}, {"text": "yyyyyy", "lang": "rust"}, {"text": "zz"}, {"text": "w", "lang": "go"}])
    manifest = prepare(spec_for(path, kind="code"), tokenizer, 0.0)
    assert {name: (counts["documents"], counts["bytes"]) for name, counts in manifest.languages.items()} == {
        "rust": (1, 6),
        "go": (2, 2),
        "unknown": (1, 2),
    }
    assert next(iter(manifest.languages)) == "rust"
    assert sum(counts["tokens"] for counts in manifest.languages.values()) == manifest.num_tokens


def test_texts_without_language_have_no_language_table(hundred_texts, spec_for, tokenizer):
    assert prepare(spec_for(hundred_texts), tokenizer, 0.1).languages == {}


def test_damaged_documents_stop_the_work_and_leave_no_corpus(write_lines, spec_for, tokenizer, tmp_path):
    path = write_lines([*({"text": f"good {i}"} for i in range(20)), b'{"text": "cut', b'{"text": null}'])
    with pytest.raises(CorpusError, match=r"2 of 22 documents are damaged, more than max_bad_share 0\.001") as caught:
        prepare(spec_for(path), tokenizer, 0.1)
    message = str(caught.value)
    assert f"broken JSON: 1 ({path}:21)" in message
    assert f"null text: 1 ({path}:22)" in message
    assert caught.value.exit_code == 2
    assert files_in(tmp_path / "out") == ["corpus.damaged.tsv"]
    assert (tmp_path / "out/corpus.damaged.tsv").read_text() == f"{path}:21\tbroken JSON\n{path}:22\tnull text\n"
    allowed = float(message.rpartition("--max-bad-share ")[2])
    said = []
    manifest = prepare(spec_for(path), tokenizer, 0.1, max_bad_share=allowed, say=said.append)
    assert said == ["x: 1 of 1 parts were done before"]
    assert list((tmp_path / "out").glob(".*")) == []
    assert manifest.num_documents == 20
    assert manifest.dropped == {"broken JSON": 1, "null text": 1}


def test_one_damaged_document_in_a_thousand_is_left_out(write_lines, spec_for, tokenizer):
    path = write_lines([*({"text": f"good {i}"} for i in range(999)), b"{"])
    assert prepare(spec_for(path), tokenizer, 0.1).dropped == {"broken JSON": 1}


@pytest.mark.parametrize("records", [[], [{"text": ""}, {"text": "  "}]])
def test_corpus_without_documents_is_an_error(write_lines, spec_for, tokenizer, records, tmp_path):
    with pytest.raises(CorpusError, match=r"corpora\.x\.documents: 1 files hold no documents"):
        prepare(spec_for(write_lines(records)), tokenizer, 0.1)
    assert files_in(tmp_path / "out") == []


def test_second_time_does_no_work(hundred_texts, spec_for, tokenizer, monkeypatch):
    first = prepare(spec_for(hundred_texts), tokenizer, 0.1)
    monkeypatch.setattr(type(tokenizer), "encode_batch", None)
    assert prepare(spec_for(hundred_texts), tokenizer, 0.1) == first
    assert prepare(spec_for(hundred_texts), tokenizer, 0.1, name="renamed").name == "renamed"


def test_preparing_again_gives_the_same_bytes(hundred_texts, spec_for, tokenizer):
    first = prepare(spec_for(hundred_texts), tokenizer, 0.1)
    second = prepare(spec_for(hundred_texts), tokenizer, 0.1, force=True)
    assert (first.bin_sha256, first.idx_sha256) == (second.bin_sha256, second.idx_sha256)


def test_changes_are_noticed_and_named(hundred_texts, spec_for, tokenizer, tokenizer_path, tmp_path):
    said = []
    prepare(spec_for(hundred_texts), tokenizer, 0.1, say=said.append)
    assert said == []
    prepare(spec_for(hundred_texts), tokenizer, 0.2, say=said.append)
    assert said.pop() == "x: preparing again, its held-out share was 0.1, now 0.2"
    with open(hundred_texts, "a") as handle:
        handle.write('{"text": "one more"}\n')
    assert prepare(spec_for(hundred_texts), tokenizer, 0.2, say=said.append).num_documents == 101
    assert said.pop() == "x: preparing again, its documents, their order or how they are read have changed"
    (tmp_path / "other.json").write_text(tokenizer_path.read_text() + "\n")
    other = load_tokenizer(tmp_path / "other.json")
    prepare(spec_for(hundred_texts), other, 0.2, say=said.append)
    assert said.pop() == "x: preparing again, it was made with another tokenizer"
    (tmp_path / "out/corpus.bin").write_bytes(b"cut")
    prepare(spec_for(hundred_texts), other, 0.2, say=said.append)
    assert "3 bytes, its manifest promises" in said.pop()
    (tmp_path / "out/corpus.manifest.json").write_text("{")
    prepare(spec_for(hundred_texts), other, 0.2, say=said.append)
    assert "not a readable corpus manifest" in said.pop()


def test_failure_leaves_the_older_corpus_as_it_was(hundred_texts, spec_for, tokenizer, tmp_path):
    prepare(spec_for(hundred_texts), tokenizer, 0.1)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files_in(tmp_path / "out")}
    hundred_texts.write_text("{broken\n")
    with pytest.raises(CorpusError, match="damaged"):
        prepare(spec_for(hundred_texts), tokenizer, 0.1)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_interruption_leaves_nothing(hundred_texts, spec_for, tokenizer, tmp_path, fault):
    def progress(*_):
        raise fault

    with pytest.raises(fault):
        prepare(spec_for(hundred_texts), tokenizer, 0.1, progress=progress)
    assert files_in(tmp_path / "out") == []


def test_files_without_a_manifest_are_not_overwritten_unless_forced(hundred_texts, spec_for, tokenizer, tmp_path):
    prepare(spec_for(hundred_texts), tokenizer, 0.1)
    (tmp_path / "out/corpus.manifest.json").unlink()
    (tmp_path / "out/corpus.bin").write_bytes(b"somebody's")
    with pytest.raises(CorpusError, match=r"corpus\.bin and .*corpus\.idx exist without a manifest.*--force"):
        prepare(spec_for(hundred_texts), tokenizer, 0.1)
    assert (tmp_path / "out/corpus.bin").read_bytes() == b"somebody's"
    assert prepare(spec_for(hundred_texts), tokenizer, 0.1, force=True).num_documents == 100


def test_corpus_whose_manifest_was_never_written_is_finished(hundred_texts, spec_for, tokenizer, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_last", lambda _: os._exit)  # a kill between the files and their manifest
        patch.setattr(parts.PartsFolder, "remove_all", lambda _: None)
        prepare(spec_for(hundred_texts), tokenizer, 0.1)
    assert files_in(tmp_path / "out") == ["corpus.bin", "corpus.documents.npy", "corpus.documents.tsv.zst", "corpus.idx"]
    assert prepare(spec_for(hundred_texts), tokenizer, 0.1).num_documents == 100
    assert files_in(tmp_path / "out") == [
        "corpus.bin",
        "corpus.documents.npy",
        "corpus.documents.tsv.zst",
        "corpus.idx",
        "corpus.manifest.json",
    ]


def test_corpus_prepared_elsewhere_needs_no_documents(hundred_texts, spec_for, tokenizer, tokenizer_path, tmp_path):
    first = prepare(spec_for(hundred_texts), tokenizer, 0.1)
    assert prepare(spec_for(), tokenizer, 0.5) == first
    (tmp_path / "other.json").write_text(tokenizer_path.read_text() + "\n")
    with pytest.raises(CorpusError, match="prepared with another tokenizer"):
        prepare(spec_for(), load_tokenizer(tmp_path / "other.json"), 0.5)
    with pytest.raises(CorpusError, match=r"corpora\.x\.documents: none named, and nothing is prepared"):
        prepare(spec_for(prefix="out/none"), tokenizer, 0.1)


def test_progress_comes_to_its_end_and_never_goes_back(write_lines, spec_for, tokenizer):
    path = write_lines([{"text": f"document {i} " * 20} for i in range(9000)])
    calls = []
    manifest = prepare(spec_for(path), tokenizer, 0.1, progress=calls.append)
    done = [state.bytes_read for state in calls]
    assert len(set(done)) > 2
    assert done == sorted(done)
    assert (calls[-1].name, calls[-1].bytes_read, calls[-1].total_bytes) == ("x", path.stat().st_size, path.stat().st_size)
    assert (calls[-1].num_documents, calls[-1].num_tokens) == (manifest.num_documents, manifest.num_tokens)


def test_prefix_that_cannot_be_written_is_named(hundred_texts, spec_for, tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="cannot be written") as caught:
        prepare(spec_for(hundred_texts, prefix="file/corpus"), tokenizer, 0.1)
    assert caught.value.exit_code == 1


def test_disk_that_fills_with_the_manifest_leaves_no_corpus(hundred_texts, spec_for, tokenizer, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CorpusManifest, "write", full)
    with pytest.raises(CorpusError, match="No space left on device"):
        prepare(spec_for(hundred_texts), tokenizer, 0.1)
    assert files_in(tmp_path / "out") == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("held_out_share", [0.0, 0.4])
def test_full_disk_is_told_with_numbers_and_leaves_nothing(small_disk, write_lines, spec_for, tokenizer, held_out_share):
    path = write_lines([{"text": f"{i} " + "the quick brown fox " * 40} for i in range(2000)])
    message = r"corpus\.bin: No space left on device: about [\d,]+ bytes are needed, 65,536 are free"
    with pytest.raises(CorpusError, match=message) as caught:
        prepare(spec_for(path, prefix="disk/corpus"), tokenizer, held_out_share)
    assert caught.value.exit_code == 1
    assert files_in(small_disk) == []


def test_disk_that_fills_with_the_index_leaves_nothing(small_disk, write_lines, spec_for, tokenizer):
    path = write_lines([{"text": f"{i}"} for i in range(4000)])  # 12 kB of tokens each, 80 kB of index
    with pytest.raises(CorpusError, match="No space left on device"):
        prepare(spec_for(path, prefix="disk/corpus"), tokenizer, 0.0)
    assert files_in(small_disk) == []


def test_limit_on_file_size_is_told_and_leaves_nothing(write_lines, spec_for, tokenizer_path, tmp_path):
    path = write_lines([{"text": f"{i} " + "the quick brown fox " * 400} for i in range(1500)])
    code = (
        "import resource, sys; from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus\n"
        "from codemix_megatron.corpus.tokenizers import load_tokenizer; from codemix_megatron.recipe.schema import CorpusSpec\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "prepare_corpus('x', CorpusSpec(documents=(sys.argv[1],), prefix=sys.argv[2]), load_tokenizer(sys.argv[3]), HowToPrepare())"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out/corpus"), str(tokenizer_path)]
    not_measured = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # coverage too would meet the limit
    done = subprocess.run(command, env=not_measured, capture_output=True, text=True)
    assert done.returncode == 1
    assert "CorpusError" in done.stderr.splitlines()[-1]
    assert "corpus.bin: File too large: about" in done.stderr
    assert files_in(tmp_path / "out") == []
