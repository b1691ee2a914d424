"""Small inputs that would take all memory or all time: every reader and every pattern is bounded."""

import importlib
import json
import pkgutil
import re
import time
import tracemalloc

import pytest
import zstandard

import codemix_megatron
from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import BadDocument, Document, Position
from codemix_megatron.readers.notebooks import read_notebook
from codemix_megatron.readers.streams import open_unpacked

MOST_SECONDS = 0.5
LENGTH = 2_000


def zst(path, size: int):
    """Write an archive whose content is one byte, repeated."""
    with open(path, "wb") as handle, zstandard.ZstdCompressor(level=19).stream_writer(handle) as writer:
        for _ in range(size >> 24):
            writer.write(bytes(1 << 24))
    return path


@pytest.mark.parametrize("kind", ["zst", "gz"])
def test_an_archive_that_expands_without_end_is_refused_in_bounded_memory(tmp_path, monkeypatch, kind):
    import gzip

    from codemix_megatron.readers import streams

    monkeypatch.setattr(streams, "HARMLESS_BYTES", 64 << 20)
    path = tmp_path / f"bomb.jsonl.{kind}"
    if kind == "zst":
        zst(path, 512 << 20)
    else:
        with gzip.open(path, "wb", compresslevel=9) as handle:
            for _ in range(8):
                handle.write(bytes(1 << 24))
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match="no archive of documents expands more"), open_unpacked(path) as (stream, _):
            while stream.read(1 << 20):
                pass
        assert tracemalloc.get_traced_memory()[1] < 300 << 20
    finally:
        tracemalloc.stop()


def test_an_ordinary_archive_is_read_whole(tmp_path):
    lines = b"".join(json.dumps({"text": f"document {i}"}).encode() + b"\n" for i in range(20_000))
    (tmp_path / "a.zst").write_bytes(zstandard.compress(lines) + zstandard.compress(b"last\n"))
    with open_unpacked(tmp_path / "a.zst") as (stream, _):
        assert stream.read() == lines + b"last\n"


NOTEBOOKS = {
    "level": {"cell_type": "heading", "level": 1_000_000_000, "source": "x"},
    "negative level": {"cell_type": "heading", "level": -5, "source": "x"},
    "level of text": {"cell_type": "heading", "level": "9" * 5000, "source": "x"},
    "backticks": {"cell_type": "code", "source": "`" * 250},
    "many backticks": {"cell_type": "code", "source": "`" * 100_000},
    "endless level": {"cell_type": "heading", "level": float("inf"), "source": "x"},
    "nested source": {"cell_type": "code", "source": [["x"]]},
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_no_larger_than_its_file(tmp_path, name):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [NOTEBOOKS[name]], "metadata": {}}))
    (found,) = read_notebook(path, "a.ipynb", Position())
    assert isinstance(found, BadDocument) or (isinstance(found, Document) and len(found.text) < 4 * path.stat().st_size)


def test_deeply_nested_notebook_is_one_bad_document(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text("[" * 1_000_000)
    (found,) = read_notebook(path, "a.ipynb", Position())
    assert isinstance(found, BadDocument)


def compiled_patterns() -> dict[str, re.Pattern]:
    """Return every pattern that stands compiled in a module of the package."""
    found = {}
    for module in pkgutil.walk_packages(codemix_megatron.__path__, "codemix_megatron."):
        if module.name.split(".")[1] in ("megatron", "model", "parallel", "train", "conversion", "inference", "__main__"):
            source = importlib.util.find_spec(module.name).loader.get_source(module.name)
            if "re.compile(" not in source:
                continue
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else [value]
            for number, entry in enumerate(values):
                entries = entry if isinstance(entry, tuple) else (entry,)
                for pattern in entries:
                    if isinstance(pattern, re.Pattern):
                        found.setdefault(f"{module.name.removeprefix('codemix_megatron.')}.{name}[{number}]", pattern)
    return found


PATTERNS = compiled_patterns()
PIECES = (
    " ", "\t", "\n", "a", "A", "1", "a ", " a", "(", "((", "( or ", "and ", "or ", "with ", ":", "::", ":0", "a:", "@", "a@", "@a.", "a.a", ".", "..",
    "1.", "1.1.", "-", "--", "_", "a-", "/", "//", "://", "://a", "://a:", "a=", "=", "?a=", "&token=", "'", '"', "`", "<", "<a", "<<<", ">", "[", "](", "{",
    "}", "$", "\\", "#", "# ", "eyJ", "eyJ-.eyJ", "sk-", "sk-a-", "key=", "-----BEGIN ", "A ", "Signed-off-by: ", "a: <a@", "preferred: ", "*", "+", "0x", "e",
    "import ", "def ", "\r\n", "\0", "é", "\u3000", "SPDX-License-Identifier:", "SPDX-License-Identifier: ", "license", "copyright ",
)  # fmt: skip


def seconds(pattern: re.Pattern, text) -> float:
    """Return how long all a pattern can find takes."""
    began = time.process_time()
    for _ in pattern.finditer(text):
        pass
    pattern.search(text)
    return time.process_time() - began


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_no_pattern_takes_more_time_than_its_text_is_long(name):
    """Twice the text may take four times as long and no more than MOST_SECONDS: a pattern that is worse is a way to stop us."""
    pattern = PATTERNS[name]
    for piece in PIECES:
        text = (piece * LENGTH)[:LENGTH] + "\x01"
        text = text.encode() if isinstance(pattern.pattern, bytes) else text
        half = seconds(pattern, text[: LENGTH // 8])
        assert half < MOST_SECONDS, f"{piece!r}: {LENGTH // 8} characters take {half:.2f} s"
        whole = seconds(pattern, text)
        assert whole < MOST_SECONDS, f"{piece!r}: {LENGTH} characters take {whole:.2f} s"


def test_patterns_were_found():
    assert len(PATTERNS) > 60
