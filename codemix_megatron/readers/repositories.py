"""Whole repositories: the files of one in one document, up to a length, what is imported before what imports it.

Files are parted by separators that carry their paths. They are StarCoder's tokens <repo_name> and <file_sep> where the tokenizer has both,
lines of comment where it has not; a file that spells them out holds text.
"""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import BadDocument, Document, InputFile, Position, Turn
from codemix_megatron.readers.import_order import imports_first
from codemix_megatron.readers.licence_texts import LICENCE_FOLDERS, is_licence_file, nearest_licence
from codemix_megatron.readers.licences import UNKNOWN_LICENCE, all_of
from codemix_megatron.readers.source_files import LARGEST_SOURCE_BYTES, is_wanted, read_source, walk_folder
from codemix_megatron.recipe.schema import CorpusSpec

__all__ = ["FILE_SEPARATOR", "REPOSITORY_NAME", "TREE_STAMP", "read_repository", "repository_input", "tree_stamp"]

REPOSITORY_NAME, FILE_SEPARATOR = "<repo_name>", "<file_sep>"
TREE_STAMP = "tree:"  # what the stamps of folders that are read as they stand begin with


def repository_input(folder: Path, spec: CorpusSpec) -> InputFile:
    """Return a repository as an input; raises CorpusError for what is no folder or holds no file of the corpus's kind."""
    if not folder.is_dir():
        raise CorpusError(f"repositories:{folder}: not a folder; name repositories, or a glob of them such as ~/src/*")
    paths = [path for path in walk_folder(folder) if is_wanted(path, spec.kind)]
    if not paths:
        raise CorpusError(f"repositories:{folder}: holds no file of kind {spec.kind}; take it out of `documents`")
    rules = spec.repositories
    reader = functools.partial(read_repository, order=rules.order, longest_bytes=rules.longest_bytes, kind=spec.kind)
    return InputFile(folder, folder.name, sum(path.stat().st_size for path in paths), tree_stamp(folder, spec.kind), reader)


def tree_stamp(folder: Path, kind: str) -> str:
    """Return what tells a folder as it stands from itself changed: sources and licences by content, for times may be set back and copied.

    Of a file that is too large to be read the size is enough.
    """
    digest = hashlib.sha256()
    for path in walk_folder(folder):
        if is_wanted(path, kind) or is_licence_file(path) or path.parent.name in LICENCE_FOLDERS:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode("utf-8", "surrogateescape"))
            digest.update(path.read_bytes() if size <= LARGEST_SOURCE_BYTES else b"")
    return f"{TREE_STAMP}{kind}:{digest.hexdigest()}"


def read_repository(
    path, name: str, position: Position, *, order: str = "imports", longest_bytes: int = 1 << 20, kind: str = "code"
) -> Iterator[Document | BadDocument]:
    """Yield the files of a repository, as many in each document as fit; those that give no text by themselves with their reason."""
    folder = Path(path)
    files: dict[str, Document] = {}
    licences: dict[Path, str | None] = {}
    for source in walk_folder(folder):
        if is_wanted(source, kind):
            inside = source.relative_to(folder).as_posix()
            licence = nearest_licence(source.parent, folder, licences)
            for document in read_source(source, inside, Position(), kind=kind, licence=licence):
                if isinstance(document, BadDocument):
                    yield document
                else:
                    files[inside] = document
            position.bytes_read += os.stat(source).st_size
    texts = {inside: document.text for inside, document in files.items()}
    ordered = imports_first(texts) if order == "imports" else sorted(texts)
    for number, group in enumerate(groups(ordered, texts, longest_bytes), 1):
        yield joined(name, f"{folder}#{number}", [(inside, files[inside]) for inside in group])


def groups(ordered: list[str], texts: dict[str, str], longest_bytes: int) -> Iterator[list[str]]:
    """Yield files that go into one document; a file longer than that is one by itself."""
    group: list[str] = []
    size = 0
    for inside in ordered:
        num_bytes = len(texts[inside].encode()) + len(inside) + 1
        if group and size + num_bytes > longest_bytes:
            yield group
            group, size = [], 0
        group.append(inside)
        size += num_bytes
    if group:
        yield group


def joined(name: str, location: str, files: list[tuple[str, Document]]) -> Document:
    """Return the document of some files; its language is that of most of its text."""
    turns = [Turn(REPOSITORY_NAME, True, True), Turn(f"{name}\n", True, False)]
    languages: Counter[str] = Counter()
    for inside, document in files:
        text = document.text if document.text.endswith("\n") else f"{document.text}\n"
        turns += [Turn(FILE_SEPARATOR, True, True), Turn(f"{inside}\n", True, False), Turn(text, True, False)]
        languages[document.language or ""] += len(text)
    return replace(
        files[0][1],
        text="".join(turn.text for turn in turns),
        identity=location,
        language=languages.most_common(1)[0][0] or None,
        licence=licence_of_all([document.licence for _, document in files]),
        origin=name,
        kind=None,
        turns=tuple(turns),
    )


def licence_of_all(licences: list[str | None]) -> str | None:
    """Return the licence of several files together: all of theirs hold, and a file that names none makes it unknown; None where none names one."""
    if not any(licences):
        return None
    return all_of(sorted({licence or UNKNOWN_LICENCE for licence in licences}))
