"""PREFIX.bin and PREFIX.idx: the same bytes as Megatron-Core's, and what a reader refuses."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codemix_megatron.corpus.indexed import IndexedReader, IndexedWriter, token_dtype
from codemix_megatron.errors import CorpusError

DOCUMENTS = [[1, 2, 3], [4], [], [5, 6, 0], [7] * 50, [], [8, 9]]


def write(prefix, documents, dtype=np.uint16) -> None:
    with IndexedWriter(prefix, dtype) as writer:
        for document in documents:
            writer.add(document)
        writer.publish()


def write_with_megatron(prefix, documents, dtype=np.uint16, splits=lambda document: [len(document)] if document else []) -> None:
    megatron = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    builder = megatron.IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    for document in documents:
        builder.add_document(document, splits(document))
    builder.finalize(f"{prefix}.idx")


def read_bytes(prefix) -> tuple[bytes, bytes]:
    return tuple(open(f"{prefix}{suffix}", "rb").read() for suffix in (".bin", ".idx"))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("documents", [DOCUMENTS, [[1]], [[], []], []], ids=["mixed", "one", "empty", "none"])
def test_files_equal_those_of_megatron(tmp_path, documents, dtype):
    write(tmp_path / "ours", documents, dtype)
    write_with_megatron(tmp_path / "theirs", documents, dtype)
    assert read_bytes(tmp_path / "ours") == read_bytes(tmp_path / "theirs")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 65499), max_size=30), max_size=20))
def test_any_documents_give_the_bytes_of_megatron(tmp_path, documents):
    write(tmp_path / "ours", documents)
    write_with_megatron(tmp_path / "theirs", documents)
    assert read_bytes(tmp_path / "ours") == read_bytes(tmp_path / "theirs")


def test_index_written_in_blocks_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("codemix_megatron.corpus.indexed.INDEX_BLOCK_DOCUMENTS", 3)
    documents = [[i] * (i % 4) for i in range(3 * 5)]
    write(tmp_path / "ours", documents)
    write_with_megatron(tmp_path / "theirs", documents)
    assert read_bytes(tmp_path / "ours") == read_bytes(tmp_path / "theirs")


@pytest.mark.parametrize("vocab_size", [1, 65499, 65500, 65535, 65536, 200_000])
def test_dtype_is_that_of_megatron(vocab_size):
    megatron = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    assert token_dtype(vocab_size) == np.dtype(megatron.DType.optimal_dtype(vocab_size))


def test_megatron_reads_ours(tmp_path):
    megatron = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    documents = [document for document in DOCUMENTS if document]
    write(tmp_path / "ours", documents)
    theirs = megatron.IndexedDataset(str(tmp_path / "ours"))
    assert [document.tolist() for document in theirs] == documents
    assert theirs.document_indices.tolist() == list(range(len(documents) + 1))


def test_reads_documents_of_several_sequences_by_megatron(tmp_path):
    documents = [[1, 2, 3, 4], [], [5], [6, 7]]
    write_with_megatron(tmp_path / "x", documents, splits=lambda document: [1] * len(document))
    reader = IndexedReader(tmp_path / "x")
    assert [reader.document(i).tolist() for i in range(len(reader))] == documents
    assert reader.document_lengths.tolist() == [4, 0, 1, 2]


def test_reads_multimodal_files_by_megatron(tmp_path):
    megatron = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    builder = megatron.IndexedDatasetBuilder(f"{tmp_path}/x.bin", dtype=np.int32, multimodal=True)
    builder.add_document([1, 2, 3], [3], [1])
    builder.finalize(f"{tmp_path}/x.idx")
    assert IndexedReader(tmp_path / "x").document(0).tolist() == [1, 2, 3]


def test_reader_gives_back_what_was_written(tmp_path):
    write(tmp_path / "x", DOCUMENTS)
    reader = IndexedReader(tmp_path / "x")
    assert [reader.document(i).tolist() for i in range(len(DOCUMENTS))] == DOCUMENTS
    assert reader.document_lengths.tolist() == [len(document) for document in DOCUMENTS]
    stream = [token for document in DOCUMENTS for token in document]
    assert reader.num_tokens == len(stream)
    assert reader.tokens(2, 9).tolist() == stream[2:9]
    assert reader.tokens(len(stream), len(stream)).tolist() == []


def test_slices_cross_documents_but_never_the_ends(tmp_path):
    write(tmp_path / "x", [[1, 2], [3]])
    reader = IndexedReader(tmp_path / "x")
    assert reader.tokens(0, 3).tolist() == [1, 2, 3]
    for start, stop in [(0, 4), (-1, 2), (2, 1)]:
        with pytest.raises(IndexError, match="there are 3"):
            reader.tokens(start, stop)
    for i in (-1, 2):
        with pytest.raises(IndexError, match="there are 2"):
            reader.document(i)


def test_tokens_read_cannot_be_changed(tmp_path):
    write(tmp_path / "x", [[1, 2]])
    with pytest.raises(ValueError, match="read-only"):
        IndexedReader(tmp_path / "x").tokens(0, 2)[0] = 5


def test_empty_corpus_can_be_read(tmp_path):
    write(tmp_path / "x", [])
    reader = IndexedReader(tmp_path / "x")
    assert (reader.num_tokens, reader.num_documents, reader.document_lengths.tolist()) == (0, 0, [])


def test_reader_travels_to_another_process_as_a_path(tmp_path):
    write(tmp_path / "x", [list(range(1000))] * 100)
    data = pickle.dumps(IndexedReader(tmp_path / "x"))
    assert len(data) < 1000
    assert pickle.loads(data).tokens(999, 1001).tolist() == [999, 0]


def test_whole_buffers_give_the_same_as_single_documents(tmp_path):
    write(tmp_path / "at_once", [[1], [2, 3], [], [4]])
    with IndexedWriter(tmp_path / "x", np.uint16) as writer:
        writer.extend([np.array([1, 2], np.uint16), np.array([3], np.uint16)], np.array([1, 2, 0]))
        writer.extend([np.array([4], np.uint16).tobytes()], np.array([1]))
        writer.publish()
    assert read_bytes(tmp_path / "x") == read_bytes(tmp_path / "at_once")


def test_nothing_remains_of_a_writer_that_failed(tmp_path):
    with pytest.raises(KeyboardInterrupt), IndexedWriter(tmp_path / "x", np.uint16) as writer:
        writer.add([1, 2])
        writer.seal()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_files_have_partial_names_until_published(tmp_path):
    with IndexedWriter(tmp_path / "x", np.uint16) as writer:
        writer.add([1, 2])
        writer.seal()
        assert all(path.name.endswith(".partial") for path in tmp_path.iterdir())
        writer.publish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bin", "x.idx"]


def test_two_writers_of_one_corpus_are_refused(tmp_path):
    with IndexedWriter(tmp_path / "x", np.uint16) as writer:
        writer.add([1])
        with pytest.raises(CorpusError, match=r"x\.bin: another command is writing it"):
            IndexedWriter(tmp_path / "x", np.uint16)
        writer.publish()
    assert IndexedReader(tmp_path / "x").num_tokens == 1


@pytest.mark.parametrize("ids", [[65536], [-1], np.array([70000])])
def test_ids_that_do_not_fit_are_refused(tmp_path, ids):
    with IndexedWriter(tmp_path / "x", np.uint16) as writer, pytest.raises(CorpusError, match="do not fit uint16"):
        writer.add(ids)


@pytest.mark.parametrize(
    ("suffix", "damage", "message"),
    [
        (".idx", lambda data: data[:20], "less than its header"),
        (".idx", lambda data: b"PARQUET" + data[7:], "not a Megatron index"),
        (".idx", lambda data: data[:9] + b"\2" + data[10:], "version 2"),
        (".idx", lambda data: data[:17] + b"\x63" + data[18:], "dtype code 99"),
        (".idx", lambda data: data[:-8], "its header promises"),
        (".idx", lambda data: data[:18] + b"\xff" * 16 + data[34:], "its header promises"),
        (".idx", lambda data: data[:-8] + b"\x09" + bytes(7), "documents cover sequences 0 to 9"),
        (".idx", lambda data: b"", "less than its header"),
        (".bin", lambda data: data[:-2], "its index promises"),
        (".bin", lambda data: data + b"\0", "its index promises"),
        (".bin", lambda data: b"", "its index promises"),
    ],
)
def test_damaged_files_are_named(tmp_path, suffix, damage, message):
    write(tmp_path / "x", [[1, 2], [3]])
    path = tmp_path / f"x{suffix}"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorpusError, match=message) as caught:
        IndexedReader(tmp_path / "x")
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_missing_files_are_named(tmp_path, suffix):
    write(tmp_path / "x", [[1]])
    (tmp_path / f"x{suffix}").unlink()
    with pytest.raises(CorpusError, match=rf"x\{suffix}: missing"):
        IndexedReader(tmp_path / "x")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("codemix_megatron.corpus.indexed", ["torch", "megatron", "tokenizers", "sentencepiece", "rich", "yaml"]),
        ("codemix_megatron.cli.prepare", ["torch", "megatron", "transformers", "tokenizers", "sentencepiece", "rich"]),
    ],
)
def test_importing_stays_light(module, unwanted):
    code = f"import sys, {module}; print([m for m in {unwanted} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
