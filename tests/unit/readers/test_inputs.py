"""From files, folders, globs and the standard library to documents, and what is wrong with the others."""

import gzip
import json
import os
import re
import sys
from pathlib import Path

import pytest
import zstandard

from codemix_megatron.corpus.input_identity import fingerprint_inputs
from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import BadDocument, Document
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.readers.source_files import docstrings_of
from codemix_megatron.recipe.schema import CorpusSpec

SOME = re.compile(r"python:(json/|[a-c][a-d])")


def read_all(*documents, kind="text", **more) -> list[Document | BadDocument]:
    spec = CorpusSpec(kind=kind, documents=tuple(map(str, documents)), **more)
    return [document for file in find_inputs(spec, where="corpora.x.documents") for document in file.read()]


def texts(*documents, **more) -> list[str]:
    found = read_all(*documents, **more)
    assert not [document for document in found if isinstance(document, BadDocument)]
    return [document.text for document in found]


def tree(root, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


BAD_LINES = {
    "broken JSON": b'{"text": "cut of',
    "broken JSON, nested without end": b"[" * 100_000,
    "not an object": b'["text"]',
    "no key 'text'": b'{"content": "x"}',
    "null text": b'{"text": null}',
    "text is not a string": b'{"text": ["a"]}',
    "empty text": b'{"text": " \\n"}',
    "invalid UTF-8": b'{"text": "\xff\xfe"}',
    "lone surrogate": b'{"text": "a\\ud800b"}',
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_bad_line_is_reported_with_its_location_and_costs_no_neighbour(write_lines, reason):
    path = write_lines([{"text": "before"}, BAD_LINES[reason], {"text": "after"}])
    before, bad, after = read_all(path)
    assert (before.text, after.text) == ("before", "after")
    assert bad == BadDocument(f"{path}:2", reason.partition(",")[0], harmless=reason == "empty text")


def test_last_line_cut_in_the_middle_is_reported(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "whole"}\n{"text": "cu')
    assert [type(document) for document in read_all(tmp_path / "x.jsonl")] == [Document, BadDocument]


def test_lines_know_language_and_licence(write_lines):
    path = write_lines([{"text": "a", "lang": "rust", "license": "MIT", "source": "s"}, {"text": "b", "language": "go", "lang": None}])
    first, second = read_all(path)
    assert first == Document("a", f"{path}:1", language="rust", licence="MIT", origin="s")
    assert second.language == "go"


def test_blank_lines_byte_order_mark_and_line_ends_are_no_documents(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b\\r\\n"}')
    assert texts(tmp_path / "x.jsonl") == ["a", "b\r\n"]


def test_parts_of_a_file_give_its_documents_once_and_in_order(tmp_path):
    lines = [json.dumps({"text": f"{i} " + "x" * (i % 37)}).encode() for i in range(200)]
    lines[17], lines[90] = b"", b"broken"
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    (file,) = find_inputs(CorpusSpec(documents=(str(tmp_path / "x.jsonl"),)), where="x")
    whole = [getattr(document, "text", "bad") for document in file.read()]
    assert len(whole) == 199
    for part_bytes in (1, 7, 50, 4096, 10**9):
        parts = file.divide(part_bytes)
        assert sum(part.num_bytes for part in parts) == file.num_bytes
        assert [getattr(document, "text", "bad") for part in parts for document in part.read()] == whole
    assert len({part.name for part in file.divide(50)}) == len(file.divide(50))


def test_text_may_stand_under_another_key(write_lines):
    assert texts(write_lines([{"content": "x"}]), text_key="content") == ["x"]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz"])
def test_gzip_is_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b'{"text": "a"}\n') + gzip.compress(b'{"text": "b"}\n'))
    assert texts(tmp_path / name) == ["a", "b"]


def test_zstandard_is_unpacked_and_a_cut_one_is_no_silent_end(tmp_path):
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstandard.compress(b'{"text": "a"}\n') * 2)
    assert texts(path) == ["a", "a"]
    lines = b"".join(json.dumps({"text": os.urandom(20).hex()}).encode() + b"\n" for _ in range(500))
    whole = zstandard.ZstdCompressor(write_checksum=True).compress(lines)
    for damaged in (b"anything", whole[:-20], whole + whole[:7000], whole[:400] + b"\0" * 40 + whole[440:]):
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match=r"x\.jsonl\.zst: damaged archive"):
            read_all(path)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"not gzip", lambda data: data[:30] + b"\0" * 30 + data[60:]])
def test_damaged_archive_is_an_error_and_no_silent_end(tmp_path, damage):
    lines = b"".join(json.dumps({"text": os.urandom(20).hex()}).encode() + b"\n" for _ in range(500))
    (tmp_path / "x.jsonl.gz").write_bytes(damage(gzip.compress(lines)))
    with pytest.raises(CorpusError, match=r"x\.jsonl\.gz: damaged archive"):
        read_all(tmp_path / "x.jsonl.gz")


def test_single_files_are_documents(tmp_path):
    tree(tmp_path, {"a.txt": "prose", "b.md": "# head", "c.rst": "para", "d.rs": "fn main() {}"})
    assert texts(*(tmp_path / name for name in ("c.rst", "a.txt", "b.md"))) == ["para", "prose", "# head"]
    (rust,) = read_all(tmp_path / "d.rs", kind="code")
    assert (rust.text, rust.language) == ("fn main() {}", "rust")


def test_folder_of_code_gives_sources_by_suffix_without_binaries_links_and_hidden_ones(tmp_path):
    tree(
        tmp_path,
        {
            "b/x.py": "x = 1", "a.go": "package a", "readme.md": "no", "data.bin": b"\0", "b/binary.c": b"int\0", "package.json": "{}",
            ".git/h.py": "no", "__pycache__/c.py": "no", "node_modules/m.js": "no", ".hidden.py": "no", "b/huge.js": "x" * ((1 << 20) + 1),
        },
    )  # fmt: skip
    (tmp_path / "link.py").symlink_to(tmp_path / "b/x.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = read_all(tmp_path, kind="code")
    assert [(d.text, d.language) for d in found if isinstance(d, Document)] == [("package a", "go"), ("x = 1", "python")]
    assert [(bad.reason, bad.harmless) for bad in found if isinstance(bad, BadDocument)] == [
        ("binary file", True),
        ("larger than 1 MiB", True),
    ]


def test_folder_of_markup_gives_markup(tmp_path):
    tree(tmp_path, {"x.py": "x = 1", "b.html": "<p>", "a.md": "# x"})
    assert [(d.text, d.language) for d in read_all(tmp_path, kind="markup")] == [("# x", "markdown"), ("<p>", "html")]


def test_folder_of_text_gives_prose_and_docstrings(tmp_path):
    tree(
        tmp_path,
        {
            "m.py": '"""Module\n\n    words."""\nclass A:\n    """Class."""\n    def f(self):\n        """Method."""\n"not a docstring"\n',
            "bare.py": "x = 1\n", "empty.py": "", "broken.py": "def (:\n", "nul.py": "x\0", "n.txt": "notes", "skip.go": "package x",
        },
    )  # fmt: skip
    found = read_all(tmp_path)
    assert [d.text for d in found if isinstance(d, Document)] == ["Module\n\nwords.\n\nClass.\n\nMethod.", "notes"]
    assert {bad.reason for bad in found if isinstance(bad, BadDocument)} == {"Python that does not parse"}


def test_docstrings_of_strange_sources_raise_no_warnings():
    assert docstrings_of('def f():\n    "a \\d b"\n') == "a \\d b"
    assert docstrings_of('"""   """\n') == ""


def test_folder_of_shards_gives_json_lines(tmp_path):
    tree(tmp_path, {"b/1.jsonl": '{"text": "b"}', "a.jsonl": '{"text": "a"}', "README.md": "about"})
    assert texts(tmp_path) == ["a", "b"]
    assert texts(tmp_path, kind="code") == ["a", "b"]


def test_folder_of_shards_and_sources_is_not_guessed_at(tmp_path):
    tree(tmp_path, {"a.jsonl": '{"text": "a"}', "b.txt": "b"})
    with pytest.raises(CorpusError, match=r"holds JSON lines or tables \(1, such as a\.jsonl\) and other documents \(1, such as b\.txt\)"):
        read_all(tmp_path)


def test_globs_are_sorted_and_pass_over_unknown_files(tmp_path):
    tree(tmp_path, {"s/b.txt": "b", "s/a.txt": "a", "s/deep/c.txt": "c", "s/x.bin": "no"})
    assert texts(tmp_path / "s/*") == ["a", "b"]
    assert texts(tmp_path / "s/**/*.txt") == ["a", "b", "c"]
    assert texts(tmp_path / "[st]") == ["a", "b", "c"]


def test_file_whose_name_looks_like_a_glob_is_found(tmp_path):
    tree(tmp_path, {"a[1].txt": "x"})
    assert texts(tmp_path / "a[1].txt") == ["x"]


def test_order_is_that_of_the_recipe(tmp_path):
    tree(tmp_path, {"a.txt": "a", "b.txt": "b"})
    assert texts(tmp_path / "b.txt", tmp_path / "a.txt") == ["b", "a"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("none.jsonl", "nothing is there"),
        ("none/*.jsonl", "matches nothing"),
        ("*.xyz", r"matches 1 files \(.xyz 1\), none of a known suffix"),
        ("odd.xyz", "unknown suffix '.xyz'"),
        ("empty", "0 files, none a document of kind text"),
        ("pipe", "neither a file nor a folder"),
    ],
)
def test_spec_that_names_nothing_is_an_error_with_its_key(tmp_path, named, message):
    tree(tmp_path, {"odd.xyz": "x"})
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match=message) as caught:
        read_all(tmp_path / named)
    assert str(caught.value).startswith(f"corpora.x.documents[0]: {tmp_path}")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("named", ["python:tests", "python:"])
def test_unknown_built_in_corpus_is_an_error(named):
    with pytest.raises(CorpusError, match="python:code, python:code-without-docstrings and python:text are built in"):
        read_all(named)


def test_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    tree(tmp_path, {"a.txt": "a"})
    (file,) = find_inputs(CorpusSpec(documents=(str(tmp_path / "a.txt"),)), where="x")
    (tmp_path / "a.txt").unlink()
    with pytest.raises(CorpusError, match=r"a\.txt: cannot be read \(No such file"):
        list(file.read())


def test_standard_library_code_is_sources_without_tests():
    inputs = find_inputs(CorpusSpec(kind="code", documents=("python:code",)), where="x")
    names = [file.name for file in inputs]
    assert len(names) > 400
    assert "python:json/decoder.py" in names
    assert not [name for name in names if {"test", "tests", "idle_test", "site-packages", "pydoc_data"} & set(name[7:].split("/"))]
    (decoder,) = next(file for file in inputs if file.name == "python:json/decoder.py").read()
    assert (decoder.language, "class JSONDecoder" in decoder.text) == ("python", True)


def test_standard_library_text_is_topics_and_docstrings():
    inputs = find_inputs(CorpusSpec(documents=("python:text",)), where="x")
    topics = list(inputs[0].read())
    assert len(topics) > 50
    assert all(isinstance(topic, Document) for topic in topics)
    (docstrings,) = next(file for file in inputs if file.name == "python:json/decoder.py").read()
    assert "Simple JSON" in docstrings.text
    assert "def decode(" not in docstrings.text


def test_sources_without_docstrings_share_no_documentation_with_the_text():
    """Thirteen words in a row, as decontamination counts. base64 keeps its help in a string that it formats."""
    text = {document.identity: runs(document.text) for document in read_modules("python:text")}

    def sharing(named: str) -> set[str]:
        modules = [document for document in read_modules(named) if document.identity in text]
        assert len(modules) > 5
        return {Path(document.identity).name for document in modules if runs(document.text) & text[document.identity]}

    assert sharing("python:code") > {"base64.py", "bdb.py", "calendar.py", "decoder.py"}
    assert sharing("python:code-without-docstrings") == {"base64.py"}


def read_modules(named: str) -> list[Document]:
    """Return json and some modules with early names, as one of the corpora of the standard library has them."""
    files = [file for file in find_inputs(CorpusSpec(kind="code", documents=(named,)), where="x") if SOME.match(file.name)]
    return [document for file in files for document in file.read() if isinstance(document, Document)]


def runs(text: str) -> set[tuple[str, ...]]:
    """Return all runs of thirteen words."""
    words = re.findall(r"[^\W_]+", text.lower())
    return {tuple(words[start : start + 13]) for start in range(len(words) - 12)}


def test_fingerprint_follows_names_sizes_and_times_but_not_the_folder(tmp_path):
    def fingerprint(folder, **more) -> str:
        spec = CorpusSpec(**{"kind": "text", "documents": (str(folder),), **more})
        return fingerprint_inputs(spec, find_inputs(spec, where="x"))

    tree(tmp_path, {"one/a.txt": "a", "one/b.txt": "b"})
    first = fingerprint(tmp_path / "one")
    assert fingerprint(tmp_path / "one") == first
    (tmp_path / "one").rename(tmp_path / "two")
    assert fingerprint(tmp_path / "two") == first
    assert fingerprint(tmp_path / "two", kind="code_adjacent") != first
    assert fingerprint(tmp_path / "two", text_key="content") != first
    os.utime(tmp_path / "two/a.txt", ns=(1, 1))
    assert fingerprint(tmp_path / "two") != first


def test_fingerprint_of_the_standard_library_follows_the_version(monkeypatch):
    spec = CorpusSpec(kind="code", documents=("python:code",))
    first = fingerprint_inputs(spec, find_inputs(spec, where="x"))
    monkeypatch.setattr(sys, "version", "4.0")
    assert fingerprint_inputs(spec, find_inputs(spec, where="x")) != first
