"""What several tests of this room need: a trained tokenizer, corpora on disk, the data beside the project."""

import json
from pathlib import Path

import pytest

from codemix_megatron.corpus.tokenizers import load_tokenizer, train_tokenizer
from codemix_megatron.recipe.schema import CorpusSpec

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory) -> Path:
    """A byte-level tokenizer of 320 ids."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    line = "the quick brown fox jumps over the lazy dog def return import class while True False None self print range"
    train_tokenizer([f"{line[i:]} {line[:i]}\n    x = {i}\n" for i in range(20)] * 3, 320, path)
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path):
    """The same, loaded."""
    return load_tokenizer(tokenizer_path)


@pytest.fixture
def shared_data() -> Path:
    """The folder of corpora and tokenizers beside the checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    return folder


@pytest.fixture
def write_lines(tmp_path):
    """Return a function that writes JSON lines: dicts as JSON, bytes as they are."""

    def write(records, name: str = "documents.jsonl") -> Path:
        path = tmp_path / name
        lines = (record if isinstance(record, bytes) else json.dumps(record).encode() for record in records)
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return write


@pytest.fixture
def spec_for(tmp_path):
    """Return a function that gives the CorpusSpec of some documents, prepared into a folder of its own."""

    def spec(*documents, kind: str = "text", prefix: str = "out/corpus", **more) -> CorpusSpec:
        return CorpusSpec(kind=kind, documents=tuple(map(str, documents)), prefix=str(tmp_path / prefix), **more)

    return spec


@pytest.fixture
def hundred_texts(write_lines) -> Path:
    """A hundred different documents."""
    return write_lines([{"text": f"document {i} says: the quick brown fox jumps {i} times over the lazy dog"} for i in range(100)])
