"""A small corpus of Python's own modules and of text, with languages."""

import json
import sysconfig
from pathlib import Path

import pytest

from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_tokenizer, train_tokenizer
from codemix_megatron.recipe.schema import CorpusSpec

MODULES = (
    "abc.py",
    "bisect.py",
    "colorsys.py",
    "copy.py",
    "dis.py",
    "heapq.py",
    "keyword.py",
    "numbers.py",
    "queue.py",
    "sched.py",
    "shlex.py",
    "textwrap.py",
)


def module_texts() -> list[str]:
    """The sources of some modules of the standard library."""
    return [Path(sysconfig.get_path("stdlib"), name).read_text(encoding="utf-8") for name in MODULES]


@pytest.fixture(scope="session")
def scored_texts():
    """Texts with the language they are in: modules, one that does not parse, Go, prose, and one of a single character."""
    texts = [(text, "python") for text in module_texts()]
    go = "package a\n\n// Add adds.\nfunc Add(a, b int) int {\n\tif a > 0 && b > 0 {\n\t\treturn a // both\n\t}\n\treturn b\n}\n"
    texts += [("def broken(:\n    x = 1\n", "python"), (go, "go"), ("It was a dark night.\n\nÄpfel, 数, \U0001f600.", ""), ("x", "python")]
    return texts


@pytest.fixture(scope="session")
def scored_tokenizer(scored_texts, tmp_path_factory):
    """A tokenizer of these texts."""
    path = tmp_path_factory.mktemp("scored") / "tokenizer.json"
    train_tokenizer([text for text, _ in scored_texts], 400, path)
    return path


@pytest.fixture
def scored_corpus(scored_texts, scored_tokenizer, tmp_path):
    """The same, prepared."""
    records = [{"text": text, **({"language": language} if language else {})} for text, language in scored_texts]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    spec = CorpusSpec(kind="code", documents=(str(tmp_path / "documents.jsonl"),), prefix=str(tmp_path / "corpus"))
    return prepare_corpus("mixed", spec, load_tokenizer(scored_tokenizer), HowToPrepare(held_out_share=0.2))
