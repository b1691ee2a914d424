"""The corpora every machine has: `python:code` and `python:text`, the standard library of the running Python."""

import functools
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import BadDocument, Document, InputFile, Position, check_text
from codemix_megatron.readers.source_files import read_docstrings, read_source, walk_folder

__all__ = ["find_library_inputs"]

# pydoc_data is prose in a Python file; lib2to3's grammar tests and every test folder repeat themselves.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "pydoc_data"}


def find_library_inputs(what: str) -> list[InputFile]:
    """Return the inputs of `python:code` or `python:text`; raises CorpusError for any other word."""
    if what not in ("python:code", "python:text"):
        raise CorpusError(f"{what}: no such corpus; python:code and python:text are built in")
    root = Path(sysconfig.get_path("stdlib"))
    reader = read_source if what == "python:code" else read_library_docstrings
    inputs = [library_file(path, root, reader) for path in walk_folder(root) if is_library_source(path.relative_to(root))]
    if not inputs:
        raise CorpusError(f"{what}: {root} holds no .py files; this Python was installed without its sources, use another one")
    return inputs if what == "python:code" else [topics_input(), *inputs]


def is_library_source(path: Path) -> bool:
    """Say whether a path below the standard library is source people wrote, and not a test or this machine's settings."""
    return path.suffix == ".py" and not SKIPPED_FOLDERS & set(path.parts[:-1]) and not path.name.startswith("_sysconfigdata")


def library_file(path: Path, root: Path, reader) -> InputFile:
    """Return one file as input; its stamp is the Python version, so that equal installations are equal."""
    return InputFile(path, f"python:{path.relative_to(root).as_posix()}", path.stat().st_size, sys.version, reader)


@functools.lru_cache(maxsize=4096)
def library_docstrings(path: Path) -> tuple[Document | BadDocument, ...]:
    """Return the docstrings of one module, kept: parsing costs seconds, and a tokenizer's training reads them first."""
    return tuple(read_docstrings(path, "", Position()))


def read_library_docstrings(path: Path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield the docstrings of one module as one document."""
    yield from library_docstrings(path)


def topics_input() -> InputFile:
    """Return the language reference that `help()` prints, one document per topic."""
    from pydoc_data import topics

    path = Path(topics.__file__)
    return InputFile(path, "python:topics", path.stat().st_size, sys.version, read_topics)


def read_topics(path: Path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield the topics in the order of their names."""
    from pydoc_data import topics

    for topic, text in sorted(topics.topics.items()):
        yield check_text(text, f"{path}:{topic}")
