"""Folders and single files: source code as it stands, prose files, and the prose inside Python files."""

import ast
import itertools
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from codemix_megatron.python_source import parse_python
from codemix_megatron.readers.documents import BadDocument, Document, Position, check_text, decode_file, decode_line
from codemix_megatron.readers.encodings import is_binary
from codemix_megatron.readers.licence_texts import is_licence_file
from codemix_megatron.readers.licences import all_of
from codemix_megatron.readers.record_documents import kind_of_language
from codemix_megatron.readers.source_languages import LANGUAGES, language_of
from codemix_megatron.readers.streams import PACKED_SUFFIXES, open_unpacked, plain_suffix
from codemix_megatron.recipe.languages import FILE_NAMES

__all__ = [
    "LARGEST_SOURCE_BYTES",
    "PROSE_SUFFIXES",
    "docstrings_of",
    "is_wanted",
    "leads_outside",
    "read_docstrings",
    "read_paragraphs",
    "read_prose",
    "read_source",
    "walk_folder",
]

LARGEST_SOURCE_BYTES = 1 << 20
PROSE_SUFFIXES = (".txt", ".md", ".rst")
SCRIPT, KINDS_WITH_SCRIPTS = b"#!", ("code", "synthetic", "code_adjacent")
SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site-packages"}
# A tag of the file itself: behind the signs of a comment, not inside a string.
SPDX = re.compile(r"^[^\w\"'`\n]{0,20}(?:(?:dnl|rem) )?SPDX-License-Identifier:[ \t]*([\w.+(-][\w.+() -]{0,200})", re.MULTILINE)
HEAD_CHARACTERS = 4096


def is_wanted(path: Path, kind: str) -> bool:
    """Say whether a folder of this kind is searched for files of that name; one without a suffix may be a script."""
    suffix = path.suffix.lower()
    if suffix in LANGUAGES[kind] or (kind == "text" and suffix in PACKED_SUFFIXES and plain_suffix(path) in PROSE_SUFFIXES):
        return True
    named = FILE_NAMES.get(path.name.lower())
    if named is not None:
        return kind == "code_adjacent" or named in LANGUAGES[kind].values()
    if suffix or (kind != "text" and kind not in KINDS_WITH_SCRIPTS):
        return False
    return holds_prose(path) if kind == "text" else head_of(path).startswith(SCRIPT)


def holds_prose(path: Path) -> bool:
    """Say whether a file without a suffix is text: no script, no binary, no licence, which is the same in every folder."""
    head = head_of(path)
    return bool(head.strip()) and not head.startswith(SCRIPT) and not is_binary(head) and not is_licence_file(path)


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file, none of one that cannot be read."""
    try:
        with open(path, "rb") as handle:
            return handle.read(HEAD_CHARACTERS)
    except OSError:
        return b""


def leads_outside(link: Path, folder: Path) -> bool:
    """Say whether a link leads to a file that does not lie in the folder, where it would be read by itself."""
    target = link.resolve()
    return target.is_file() and not target.is_relative_to(folder.resolve())


def walk_folder(folder: Path, links: list[Path] | None = None) -> Iterator[Path]:
    """Yield the files below a folder in a stable order, without hidden ones, links, installed packages and what git ignores.

    Links to files are added to `links`.
    """

    def refuse(fault: OSError):
        raise fault

    ignored = IgnoreRules(folder)
    for parent, folders, files in os.walk(folder, onerror=refuse):
        ignored.enter(Path(parent), files)
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED_FOLDERS and not name.startswith(".") and not ignored.covers(Path(parent, name), True)
        )
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith(".") or not path.is_file() or ignored.covers(path, False):
                continue
            if not path.is_symlink():
                yield path
            elif links is not None:
                links.append(path)


class IgnoreRules:
    """What the .gitignore files of a tree, of the repository around it, and .git/info/exclude say about its files."""

    def __init__(self, folder: Path):
        self.specs: dict[Path, list[Any]] = {}
        folder = folder.absolute()
        above = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)
        if above is None:
            return
        self.read(above, above / ".git/info/exclude")
        for parent in reversed(folder.parents):
            if parent.is_relative_to(above):
                self.read(parent, parent / ".gitignore")
        inside = [parent for parent in (folder, *folder.parents) if parent != above and parent.is_relative_to(above)]
        if any(self.covers(parent, True) for parent in inside):
            self.specs = {}  # a folder that was named is read, though the repository around it ignores it

    def read(self, folder: Path, path: Path) -> None:
        """Take up the rules of one file, for the paths below `folder`."""
        try:
            # git ends lines at line feeds alone: a name may hold what Python too takes for a line's end.
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return
        from pathspec import GitIgnoreSpec

        rules = self.specs.setdefault(folder, [])
        rules.append(GitIgnoreSpec.from_lines(lines))

    def enter(self, folder: Path, files: list[str]) -> None:
        """Take up the rules of a folder the walk has come to."""
        if ".gitignore" in files:
            self.read(folder.absolute(), folder / ".gitignore")

    def covers(self, path: Path, is_folder: bool) -> bool:
        """Say whether a path is ignored; of the files that say something, the deepest counts."""
        if not self.specs:
            return False
        path = path.absolute()
        for folder in path.parents:
            for rules in reversed(self.specs.get(folder, ())):
                found = rules.check_file(path.relative_to(folder).as_posix() + ("/" if is_folder else ""))
                if found.include is not None:
                    return found.include
        return False


def read_source(
    path, name: str, position: Position, *, kind: str | None = None, licence: str | None = None
) -> Iterator[Document | BadDocument]:
    """Yield a source file as one document; binaries and files above 1 MiB are left out.

    `kind` is that of the corpus; a file in it whose content is not what its name says is left out too.
    """
    with open_unpacked(path, position.hashed) as (stream, _):
        data = stream.read(LARGEST_SOURCE_BYTES + 1)
    if len(data) > LARGEST_SOURCE_BYTES:
        yield BadDocument(str(path), "larger than 1 MiB", harmless=True)
    else:
        document = decode_file(data, str(path), licence=licence, origin=name)
        yield document if isinstance(document, BadDocument) else told_source(document, path, kind)


def told_source(document: Document, path, kind: str | None) -> Document:
    """Return a source with its language, kind and the licence it names itself; where it names several, all hold."""
    tags = [found.rstrip(" -") for found in SPDX.findall(document.text[:HEAD_CHARACTERS])]
    language = language_of(path, document.text)
    return replace(
        document,
        language=language,
        licence=all_of(tags) or document.licence,
        kind=kind_of_language(language, kind) if language and kind else None,
    )


def read_prose(path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield a text file as one document."""
    with open_unpacked(path, position.hashed) as (stream, _):
        data = stream.read()
    yield decode_file(data, str(path), origin=name)


def read_paragraphs(path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield the paragraphs of a text file, parted by blank lines, each as one document with the location of its first line."""
    with open_unpacked(path, position.hashed) as (lines, raw):
        paragraph: list[bytes] = []
        begin = 0
        for number, line in enumerate(itertools.chain(lines, [b""]), 1):
            if line.strip():
                begin = begin if paragraph else number
                paragraph.append(line)
            elif paragraph:
                yield decode_line(b"".join(paragraph).rstrip(), f"{path}:{begin}")
                position.bytes_read, paragraph = raw.tell(), []


def read_docstrings(path: Path, name: str, position: Position) -> Iterator[Document | BadDocument]:
    """Yield the docstrings of a Python file as one document; nothing when it has none."""
    with open_unpacked(path, position.hashed) as (stream, _):
        source = decode_file(stream.read(), str(path))
    if isinstance(source, BadDocument):
        if not source.harmless:
            yield source
        return
    try:
        prose = docstrings_of(source.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield BadDocument(str(path), "Python that does not parse", harmless=True)
        return
    if prose:
        yield check_text(prose, str(path))


def docstrings_of(source: str) -> str:
    """Return all docstrings of a module, cleaned of indentation, in their order, with a blank line between."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in somebody else's file
        tree = parse_python(source)
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(tree) if isinstance(node, owners) and ast.get_docstring(node, clean=False)]
    found.sort(key=lambda node: node.body[0].lineno)
    return "\n\n".join(text for text in ((ast.get_docstring(node) or "").strip() for node in found) if text)
