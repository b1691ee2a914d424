"""Every byte that was read of large inputs is hashed, so that an edit that leaves name, size and time is seen. Judge: the bytes themselves."""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from codemix_megatron.corpus import input_contents, part_encoding, parts
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.input_identity import HASHED_WHOLE_BYTES, sample_offsets
from codemix_megatron.corpus.parts import Shard
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import Position
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.readers.read_ranges import RangeHash

HOW = HowToPrepare()


@pytest.fixture(autouse=True)
def parts_of_half_a_megabyte(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 1 << 19)


@pytest.fixture
def large(write_lines) -> Path:
    """A file of 1.5 MB, three parts."""
    path = write_lines([{"text": f"document {i:04} " + "of a large file " * 60} for i in range(1_500)], "large.jsonl")
    assert HASHED_WHOLE_BYTES < path.stat().st_size < 3 << 19
    return path


def edit(path: Path) -> str:
    """Change a document at an offset that no sample holds, keeping size and time; return its new text."""
    data, status = bytearray(path.read_bytes()), path.stat()
    before, behind = list(sample_offsets(len(data)))[13:15]
    begin = data.rindex(b"document", before, (before + (16 << 10) + behind) // 2)
    data[begin : begin + 8] = b"SECRETLY"
    with open(path, "r+b") as handle:
        handle.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert before + (16 << 10) <= begin < behind - 8, "no sample holds it"
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    return json.loads(data[data.rindex(b"\n", 0, begin) + 1 : data.index(b"\n", begin)])["text"]


def texts_of(prefix, tokenizer) -> set[str]:
    reader = IndexedReader(prefix)
    return {tokenizer.decode(reader.document(i)[:-1]) for i in range(reader.num_documents)}


def test_an_edit_between_the_samples_that_keeps_size_and_time_is_seen(large, spec_for, tokenizer):
    spec, said = spec_for(large), []
    prepare_corpus("x", spec, tokenizer, HOW)
    new = edit(large)
    manifest = prepare_corpus("x", spec, tokenizer, replace(HOW, say=said.append))
    assert said == [f"x: preparing again, {large} holds something else than was read, though its size and time are the same"]
    assert new in texts_of(manifest.prefix, tokenizer) and manifest.num_documents == 1_500


def test_parts_of_an_edited_file_are_made_again(large, spec_for, tokenizer):
    spec = spec_for(large)
    prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(0, 2)))
    new, said = edit(large), []
    prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(1, 2)))
    with pytest.raises(CorpusError, match=rf"2 of 3 parts are not done .such as part 0, {large} has changed since it was read"):
        prepare_corpus("x", spec, tokenizer, replace(HOW, only_merge=True))
    manifest = prepare_corpus("x", spec, tokenizer, replace(HOW, say=said.append))
    assert said[:2] == ["x: 1 of 3 parts were done before", f"x: part 0 is made again, {large} has changed since it was read"]
    assert new in texts_of(manifest.prefix, tokenizer) and manifest.num_documents == 1_500


def test_a_copy_is_read_and_an_untouched_file_is_not_unless_asked_for(large, spec_for, tokenizer, monkeypatch, tmp_path):
    spec, read = spec_for(large), []
    first = prepare_corpus("x", spec, tokenizer, HOW)

    def counted(path, begin, end):
        read.append(end - begin)
        return RangeHash(begin, end).complete(path)

    monkeypatch.setattr(input_contents, "hash_of_range", counted)
    assert prepare_corpus("x", spec, tokenizer, HOW) == first and read == []
    assert prepare_corpus("x", spec, tokenizer, replace(HOW, check_inputs=True)) == first and sum(read) == large.stat().st_size
    data, status = large.read_bytes(), large.stat()
    large.unlink()
    large.write_bytes(data)
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    read.clear()
    assert prepare_corpus("x", spec, tokenizer, HOW) == first and sum(read) == len(data)


def test_an_edit_that_a_quick_look_cannot_see_is_found_by_the_thorough_one(large, spec_for, tokenizer, monkeypatch):
    """As on a file system that keeps no time of change."""
    monkeypatch.setattr(input_contents, "quick_look", lambda path: (os.stat(path).st_size, os.stat(path).st_mtime_ns))
    spec, said = spec_for(large), []
    prepare_corpus("x", spec, tokenizer, HOW)
    new = edit(large)
    prepare_corpus("x", spec, tokenizer, replace(HOW, say=said.append))
    assert said == ["x: already prepared, nothing has changed"]
    manifest = prepare_corpus("x", spec, tokenizer, replace(HOW, check_inputs=True))
    assert new in texts_of(manifest.prefix, tokenizer)


def test_a_file_that_is_edited_while_it_is_read_and_given_its_time_again_is_named(large, spec_for, tokenizer, monkeypatch):
    monkeypatch.setattr(part_encoding, "BATCH_DOCUMENTS", 50)
    edited = []

    def meanwhile(state):
        if state.num_documents and not edited:
            edited.append(edit(large))

    with pytest.raises(CorpusError, match=rf"{large}: changed while it was read .it was written to meanwhile"):
        prepare_corpus("x", spec_for(large), tokenizer, replace(HOW, progress=meanwhile))
    assert edited


def as_lines(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_parquet(path: Path, rows: list) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=len(rows) // 7)
    return path


def as_archive(path: Path, rows: list) -> Path:
    with gzip.open(path, "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize(("name", "write"), [("d.jsonl", as_lines), ("d.parquet", as_parquet), ("d.jsonl.gz", as_archive)])
def test_the_hashes_taken_while_parts_are_read_are_those_of_the_whole_file(tmp_path, spec_for, name, write):
    """However a format is read: in order, from archives, or column by column from row groups."""
    path = write(tmp_path / name, [{"text": f"{i} " * 40} for i in range(6_000)])
    (file,) = find_inputs(spec_for(path), where="x")
    pieces, data = file.divide(1 << 16), path.read_bytes()
    end = 0
    for piece in pieces:
        taken = RangeHash(piece.first_byte, piece.first_byte + piece.num_bytes)
        assert sum(1 for _ in piece.read(Position(hashed=taken))) > 0 and piece.first_byte == end
        end += piece.num_bytes
        if name != "d.parquet":
            assert taken.next == taken.end, "all of it was seen as it was read"
        assert taken.complete(path) == xxhash.xxh3_128_hexdigest(data[piece.first_byte : end])
    assert end == len(data) and (len(pieces) > 1) == (name != "d.jsonl.gz")
