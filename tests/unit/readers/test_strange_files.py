"""Files as they come: encodings, JSON arrays, nested keys, binary columns, partitions, links, packed and suffix-less files."""

import bz2
import gzip
import json
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import BadDocument, Document
from codemix_megatron.readers.encodings import decode_text
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.recipe.schema import CorpusSpec


def read(*documents, kind="text", said: list[str] | None = None, **more) -> list[Document | BadDocument]:
    spec = CorpusSpec(kind=kind, documents=tuple(map(str, documents)), **more)
    said = [] if said is None else said
    return [document for file in find_inputs(spec, where="corpora.x.documents", say=said.append) for document in file.read()]


def texts(*documents, **more) -> list[str]:
    found = read(*documents, **more)
    assert not [document for document in found if isinstance(document, BadDocument)]
    return [document.text for document in found]


def tree(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


FRENCH = "# R\u00e9sum\u00e9 g\u00e9n\u00e9ral : d\u00e9termine la fr\u00e9quence \u00e0 l'\u00e9chelle\nx = 1\n"
RUSSIAN = "# \u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440: \u043f\u0440\u043e\u0432\u0435\u0440\u043a\u0430 \u043a\u043e\u0434\u0438\u0440\u043e\u0432\u043a\u0438 \u0442\u0435\u043a\u0441\u0442\u0430\nx = 1\n"  # noqa: E501
CHINESE = (
    "// \u8fd9\u4e2a\u51fd\u6570\u8fd4\u56de\u4e00\u4e2a\u65b0\u7684\u5217\u8868\uff0c\u7528\u4e8e\u6d4b\u8bd5\u7f16\u7801\nint x = 1;\n"
)
JAPANESE = "// \u3053\u306e\u95a2\u6570\u306f\u65b0\u3057\u3044\u30ea\u30b9\u30c8\u3092\u8fd4\u3057\u307e\u3059\u3002\nint x = 1;\n"
KOREAN = "// \uc774 \ud568\uc218\ub294 \uc0c8\ub85c\uc6b4 \ubaa9\ub85d\uc744 \ubc18\ud658\ud569\ub2c8\ub2e4.\nint x = 1;\n"


@pytest.mark.parametrize(
    ("text", "encoding", "mark"),
    [
        (FRENCH, "utf-8", b"\xef\xbb\xbf"), (FRENCH, "utf-16-le", b"\xff\xfe"), (FRENCH, "utf-16-be", b"\xfe\xff"), (FRENCH, "utf-32-le", b"\xff\xfe\0\0"),
        (FRENCH, "utf-16-le", b""), (FRENCH, "utf-16-be", b""), (FRENCH, "cp1252", b""), (RUSSIAN, "cp1251", b""), (RUSSIAN, "koi8-r", b""),
        (CHINESE, "gb18030", b""), (JAPANESE, "shift_jis", b""), (JAPANESE, "euc-jp", b""), (KOREAN, "euc-kr", b""),
        ("# -*- coding: iso-8859-15 -*-\nprix = '5 \u20ac'\n", "iso-8859-15", b""),
        ("#!/usr/bin/python\n# vim: set fileencoding=cp1251 :\nx='\u042f'\n", "cp1251", b""),
        ('<?xml version="1.0" encoding="ISO-8859-2"?>\n<a>\u017elu\u0165ou\u010dk\u00fd</a>\n', "iso-8859-2", b""),
        ('<html><head><meta charset="windows-1253"></head>\u0391\u03c5\u03c4\u03ae</html>', "cp1253", b""),
    ],
)  # fmt: skip
def test_files_are_read_in_the_encoding_they_have_and_counted(tmp_path, text, encoding, mark):
    path = tree(tmp_path, {"a.txt": mark + text.encode(encoding)}) / "a.txt"
    (document,) = read(path)
    assert document.text == text
    assert bool(document.rewritten) == (encoding != "utf-8") and all(note.startswith("converted from ") for note in document.rewritten)


def test_one_latin_source_among_many_is_no_damage(tmp_path):
    tree(tmp_path, {f"{i}.py": f"x = {i}\n" for i in range(50)})
    tree(
        tmp_path,
        {"latin.py": "# -*- coding: latin-1 -*-\n# caf\u00e9\n".encode("latin-1"), "utf16.py": "\ufeffx = '\u00e9'\n".encode("utf-16-le")},
    )
    found = {document.origin: document for document in read(tmp_path, kind="code")}
    assert len(found) == 52 and all(isinstance(document, Document) for document in found.values())
    assert found["latin.py"].text.endswith("# caf\u00e9\n") and found["latin.py"].rewritten == ("converted from iso8859-1",)
    assert found["utf16.py"].text == "x = '\u00e9'\n"


def test_binary_and_damaged_files_are_not_taken_for_text_of_some_encoding():
    assert decode_text(bytes(range(256)) * 20) is None and decode_text(os.urandom(5000)) is None
    damaged = (FRENCH * 20).encode()
    damaged = damaged[:100] + b"\xff" + damaged[100:]
    assert decode_text(damaged) is None, "UTF-8 with a few bytes wrong is damaged, not Latin"
    assert decode_text(b"\x7fELF\x02\x01\x01\0\0\0" + b"\0" * 200) is None
    for codec in (b"utf-7", b"idna", b"rot13", b"zlib", b"unicode_escape", b"nonsense"):
        found = decode_text(b"# coding: " + codec + b"\nx = '+AGE- \\u0041 \xe9t\xe9 caf\xe9'\n")
        assert found is None or "+AGE- \\u0041" in found[0], "a declaration cannot make another text of the bytes"


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, gzip.compress])
def test_packed_files_are_read_and_cut_ones_are_errors(tmp_path, pack):
    suffix = {bz2: ".bz2", lzma: ".xz", gzip: ".gz"}[{"bz2": bz2, "lzma": lzma, "gzip": gzip}[pack.__module__.strip("_")]]
    lines = b"".join(json.dumps({"text": f"{i} {os.urandom(9).hex()}"}).encode() + b"\n" for i in range(3000))
    path = tree(tmp_path, {f"a.jsonl{suffix}": pack(lines)}) / f"a.jsonl{suffix}"
    assert len(texts(path)) == 3000 and texts(tmp_path) == texts(path)
    assert texts(tree(tmp_path / "t", {f"a.txt{suffix}": pack(b"prose")}) / f"a.txt{suffix}") == ["prose"] == texts(tmp_path / "t")
    for damage in (lambda data: data[:-40], lambda data: b"no archive at all", lambda data: data[:600] + b"\0" * 60 + data[660:]):
        path.write_bytes(damage(pack(lines)))
        with pytest.raises(CorpusError, match="damaged archive"):
            read(path)


@pytest.mark.parametrize(("tool", "suffix", "padding"), [("bzip2", ".bz2", b""), ("xz", ".xz", b"\0" * 8)])
def test_every_stream_of_an_archive_counts_and_a_damaged_beginning_of_one_is_no_end(tmp_path, tool, suffix, padding):
    """Python's own readers of both take a stream whose first byte is damaged for the end of the file; judged by the tools that made them."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    halves = [b"".join(json.dumps({"text": f"{half} {i}"}).encode() + b"\n" for i in range(50)) for half in "ab"]
    first, second = (subprocess.run([tool, "-c"], input=half, capture_output=True, check=True).stdout for half in halves)
    path = tree(tmp_path, {f"a.jsonl{suffix}": first + padding + second + padding}) / f"a.jsonl{suffix}"
    unpacked = subprocess.run([tool, "-dc", str(path)], capture_output=True, check=True).stdout
    assert texts(path) == [json.loads(line)["text"] for line in unpacked.split(b"\n")[:-1]] and len(texts(path)) == 100
    for damaged in (first + b"\xff" + second[1:], first + second[:-30], first + second + b"waste", b""):
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match="damaged archive"):
            read(path)


def test_notebooks_with_nan_in_outputs_are_read(tmp_path):
    cell = '{"cell_type": "code", "source": "x", "outputs": [{"data": NaN, "low": -Infinity}]}'
    path = tree(tmp_path, {"a.ipynb": f'{{"cells": [{cell}], "metadata": {{}}, "nbformat": 4}}'}) / "a.ipynb"
    assert texts(path, kind="code") == ["```python\nx\n```\n"]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_arrays_of_records_and_single_records_are_json_too(tmp_path, name):
    def written(content: str) -> Path:
        (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        return tmp_path / name

    records = [{"text": "one", "lang": "go"}, {"text": "two \u00e9"}, 3]
    for content in (json.dumps(records), json.dumps(records, indent=2), "\ufeff\n" + json.dumps(records, indent=1)):
        first, second, third = read(written(content))
        assert (first.text, first.language, second.text) == ("one", "go", "two \u00e9")
        assert third == BadDocument(f"{tmp_path / name}[3]", "not an object")
    assert texts(written(json.dumps({"text": "alone"}, indent=4))) == ["alone"]
    assert texts(written('{"text": "a"}\n{"text": "b"}\n')) == ["a", "b"]
    assert read(written("[]")) == []
    (bad,) = read(written('[{"text": "cut'))
    assert bad.reason == "broken JSON" and not bad.harmless


def test_keys_may_be_paths(tmp_path):
    rows = [{"doc": {"text": "deep", "meta": {"lang": "go"}}, "doc.text": None}, {"doc": {"text": "too"}}, {"doc": 3}]
    lines = tree(tmp_path, {"a.jsonl": "".join(json.dumps(row) + "\n" for row in rows[1:])}) / "a.jsonl"
    found = read(lines, text_key="doc.text", language_key="doc.meta.lang")
    assert [getattr(document, "text", None) or document.reason for document in found] == ["too", "no key 'doc.text'"]
    table = pyarrow.table({"doc": [{"text": "deep", "meta": {"lang": "go"}}]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (document,) = read(tmp_path / "a.parquet", text_key="doc.text", language_key="doc.meta.lang")
    assert (document.text, document.language) == ("deep", "go")
    with pytest.raises(CorpusError, match=r"no column 'body.text'; there are doc"):
        read(tmp_path / "a.parquet", text_key="body.text")


def test_binary_columns_hold_text_where_they_are_utf8(tmp_path):
    table = pyarrow.table(
        {"text": pyarrow.array([b"caf\xc3\xa9", b"\xff\xfe", None], pyarrow.binary()), "lang": pyarrow.array([b"go"] * 3, pyarrow.binary())}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    first, second, third = read(tmp_path / "a.parquet")
    assert (first.text, first.language) == ("caf\u00e9", "go")
    assert (second.reason, third.reason) == ("invalid UTF-8", "null text")


def test_folders_of_partitions_are_keys_of_their_records(tmp_path):
    for name in ("lang=c%2B%2B", "lang=python", "lang=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / name).mkdir()
        pyarrow.parquet.write_table(pyarrow.table({"text": [name]}), tmp_path / name / "part-0.parquet")
    tree(tmp_path, {"lang=python/own.jsonl": '{"text": "own", "lang": "go"}'})
    found = {document.text: document.language for document in read(tmp_path, kind="code")}
    assert found == {"lang=c%2B%2B": "c++", "lang=python": "python", "lang=__HIVE_DEFAULT_PARTITION__": None, "own": "go"}


def test_folder_of_links_is_read_as_the_hubs_cache_keeps_it(tmp_path):
    blobs = tree(tmp_path / "blobs", {"0a1b": '{"text": "one"}', "2c3d": '{"text": "two"}', "4e5f": "about"})
    snapshot = tmp_path / "snapshots/main"
    (snapshot / "data").mkdir(parents=True)
    for name, blob in {"data/1.jsonl": "0a1b", "data/2.jsonl": "2c3d", "README.md": "4e5f"}.items():
        (snapshot / name).symlink_to(blobs / blob)
    (snapshot / "broken.jsonl").symlink_to(tmp_path / "nowhere")
    assert texts(snapshot) == ["one", "two"]
    tree(snapshot, {"own.jsonl": '{"text": "own"}'})
    (snapshot / "again.jsonl").symlink_to(snapshot / "own.jsonl")
    assert texts(snapshot) == ["one", "two", "own"], "a link to what is read by itself is not read again"


def test_links_of_a_source_tree_are_left_out_and_said(tmp_path):
    tree(tmp_path, {"secret.py": "no", "tree/a.py": "a = 1", "tree/b.md": "no"})
    (tmp_path / "tree/link.py").symlink_to(tmp_path / "secret.py")
    said: list[str] = []
    assert texts(tmp_path / "tree", kind="code", said=said) == ["a = 1"]
    assert said == [f"corpora.x.documents[0]: {tmp_path / 'tree'}: 3 files; reads 1 (.py 1), leaves out 2 (.md 1, 1 links to other files)"]


def test_text_without_a_suffix_is_prose_and_scripts_and_licences_are_not(tmp_path):
    files = {
        "AUTHORS": "Jane",
        "copyright": "text",
        "run": "#!/bin/sh\n",
        "tool": b"\x7fELF\0\0",
        "LICENSE": "terms",
        "empty": "",
        "a.txt": "a",
    }
    tree(tmp_path, files)
    assert texts(tmp_path) == ["Jane", "a", "text"] and texts(tmp_path / "copyright") == ["text"] and texts(tmp_path / "c*") == ["text"]
    assert texts(tree(tmp_path / "shards", {"a.jsonl": '{"text": "s"}', "_SUCCESS": "", "NOTES": "about"})) == ["s"]


def test_few_tables_among_many_documents_do_not_refuse_a_folder(tmp_path):
    tree(tmp_path, {f"{i}/copyright.txt": f"{i}" for i in range(40)})
    tree(tmp_path, {"3/index.json.gz": gzip.compress(b"{}"), "3/changelog.html": "<p>", "4/x.png": b"\x89PNG"})
    said: list[str] = []
    assert len(texts(tmp_path, said=said)) == 40
    (line,) = said
    assert line.endswith(": 43 files; reads 40 (.txt 40), leaves out 3 (.html 1, .json.gz 1, .png 1)")
    tree(tmp_path, {f"{i}.jsonl": '{"text": "x"}' for i in range(20)})
    with pytest.raises(
        CorpusError,
        match=r"tables \(21, such as 0.jsonl\) and other documents \(40, such as copyright.txt\), of 63 files \(.txt 40, .jsonl 20",
    ):
        read(tmp_path)


def test_globs_say_what_they_leave_out(tmp_path):
    tree(tmp_path, {"a.txt": "a", "b.xyz": "b", "c.xyz": "c"})
    said: list[str] = []
    assert texts(tmp_path / "*", said=said) == ["a"]
    assert said == [f"corpora.x.documents[0]: {tmp_path}/*: 3 files; reads 1 (.txt 1), leaves out 2 (.xyz 2)"]
    said.clear()
    texts(tmp_path / "*.txt", said=said)
    assert said == []


def test_json_of_a_source_tree_is_a_source(tmp_path):
    tree(tmp_path, {"package.json": '{\n "name": "x"\n}\n', "a.html": "<p>"})
    assert texts(tmp_path, kind="markup") == ["<p>", '{\n "name": "x"\n}\n']
