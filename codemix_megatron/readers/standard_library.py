"""The corpora every machine has, of the standard library of the running Python.

`python:code` is its sources as they stand, `python:text` their docstrings and the topics of `help()`. A held-out document of that text therefore stands
in the sources too; `python:code-without-docstrings` has none of it, for studies that ask what code does to text.
"""

import functools
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.docstring_removal import without_docstrings
from codemix_megatron.readers.documents import BadDocument, Document, InputFile, Position, check_text
from codemix_megatron.readers.source_files import read_docstrings, read_source, walk_folder

__all__ = ["find_library_inputs"]

# pydoc_data is prose in a Python file; lib2to3's grammar tests and every test folder repeat themselves.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "pydoc_data"}


def find_library_inputs(what: str) -> list[InputFile]:
    """Return the inputs of one of the corpora named above; raises CorpusError for any other word."""
    readers = {
        "python:code": read_source,
        "python:code-without-docstrings": read_bare_source,
        "python:text": read_library_docstrings,
    }
    if what not in readers:
        raise CorpusError(f"{what}: no such corpus; python:code, python:code-without-docstrings and python:text are built in")
    root, reader = Path(sysconfig.get_path("stdlib")), readers[what]
    inputs = [library_file(path, root, reader) for path in walk_folder(root) if is_library_source(path.relative_to(root))]
    if not inputs:
        raise CorpusError(f"{what}: {root} holds no .py files; this Python was installed without its sources, use another one")
    return [topics_input(), *inputs] if what == "python:text" else inputs


def is_library_source(path: Path) -> bool:
    """Say whether a path below the standard library is source people wrote, and not a test or this machine's settings."""
    return path.suffix == ".py" and not SKIPPED_FOLDERS & set(path.parts[:-1]) and not path.name.startswith("_sysconfigdata")


def library_file(path: Path, root: Path, reader) -> InputFile:
    """Return one file as input; its stamp is the Python version, so that equal installations are equal."""
    return InputFile(path, f"python:{path.relative_to(root).as_posix()}", path.stat().st_size, sys.version, reader)


def read_bare_source(path: Path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield one module without its docstrings; one that does not parse is left out."""
    for found in read_source(path, name, position):
        yield found if isinstance(found, BadDocument) else bare(found)


def bare(document: Document) -> Document | BadDocument:
    """Return a module without its docstrings, or why nothing is left of it."""
    try:
        text = without_docstrings(document.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return BadDocument(document.identity, "Python that does not parse", harmless=True)
    left = check_text(text, document.identity)
    return left if isinstance(left, BadDocument) else replace(document, text=text)


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
