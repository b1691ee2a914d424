"""From what a recipe names (files, folders, globs, python:code) to the files that are read."""

import functools
import glob
import hashlib
from collections.abc import Iterator
from pathlib import Path

from codemix_megatron.corpus.documents import InputFile, unreadable
from codemix_megatron.corpus.json_lines import JSON_LINES_SUFFIXES, divide_json_lines, is_json_lines, is_shard, read_json_lines_span
from codemix_megatron.corpus.source_files import LANGUAGES, PROSE_SUFFIXES, is_wanted, read_docstrings, read_prose, read_source, walk_folder
from codemix_megatron.corpus.standard_library import find_library_inputs
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.schema import CorpusSpec

__all__ = ["find_inputs", "fingerprint_inputs"]

PACKED_SUFFIXES = (".gz", ".zst")  # a stream that has to be read from its beginning
READING_VERSION = 1  # count up when the same files would give other documents
ABOUT_A_FOLDER = ("readme", "license", "licence", "notice", "changelog", "citation")


def find_inputs(spec: CorpusSpec, *, where: str) -> list[InputFile]:
    """Return the files of a corpus in a stable order; raises CorpusError for a spec that names nothing.

    `where` is the recipe key for messages, such as `corpora.text.documents`.
    """
    inputs = []
    for index, named in enumerate(spec.documents):
        try:
            inputs += inputs_of(named, spec.kind, spec.text_key)
        except CorpusError as fault:
            raise CorpusError(f"{where}[{index}]: {fault}") from None
        except OSError as fault:
            raise CorpusError(f"{where}[{index}]: {unreadable(fault.filename or named, fault)}") from None
    return inputs


def inputs_of(named: str, kind: str, text_key: str) -> list[InputFile]:
    """Return the files behind one entry of `documents`."""
    if named.startswith("python:"):
        return find_library_inputs(named)
    path = Path(named).expanduser()
    if path.is_dir():
        return folder_inputs(path, kind, text_key)
    if path.is_file():
        return [as_input(path, path.name, kind, text_key)]
    if path.exists():
        raise CorpusError(f"{named}: neither a file nor a folder; copy the documents into a file")
    if glob.has_magic(str(path)):
        return list(glob_inputs(str(path), kind, text_key))
    raise CorpusError(f"{named}: nothing is there; give a file, a folder, a glob such as data/*.jsonl, python:text or python:code")


def glob_inputs(pattern: str, kind: str, text_key: str) -> Iterator[InputFile]:
    """Yield the files a glob matches; folders among them are searched, files of unknown suffix passed over."""
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    files = [path for path in matches if path.is_file() and (is_json_lines(path) or suffix_of(path) in known_suffixes())]
    # `**` matches folders as well as what is in them; only when no file matched are folders meant.
    folders = [] if files else [path for path in matches if path.is_dir()]
    if not files and not folders:
        found = f"{len(matches)} files, none of a known suffix" if matches else "nothing"
        raise CorpusError(f"{pattern}: matches {found}; known are {', '.join(known_suffixes())}")
    for path in files:
        yield as_input(path, path.name, kind, text_key)
    for path in folders:
        yield from folder_inputs(path, kind, text_key)


def folder_inputs(folder: Path, kind: str, text_key: str) -> list[InputFile]:
    """Return the files of a folder: its documents of this kind, or its JSON lines when it is a folder of shards."""
    files = list(walk_folder(folder))
    shards = [path for path in files if is_shard(path)]
    sources = [path for path in files if is_wanted(path, kind)]
    if shards and any(not path.name.lower().startswith(ABOUT_A_FOLDER) for path in sources):
        raise CorpusError(
            f"{folder}: holds JSON lines ({len(shards)}, such as {shards[0].name}) and other documents ({len(sources)}, such as"
            f" {sources[0].name}); say which are meant with a glob, {folder}/**/*{shards[0].suffix} or {folder}/**/*{sources[0].suffix}"
        )
    chosen = shards or sources
    if not chosen:
        wanted = ", ".join(sorted(LANGUAGES[kind]))
        raise CorpusError(f"{folder}: {len(files)} files, none a document of kind {kind}; searched for .jsonl, .jsonl.gz, {wanted}")
    return [as_input(path, path.relative_to(folder).as_posix(), kind, text_key) for path in chosen]


def as_input(path: Path, name: str, kind: str, text_key: str) -> InputFile:
    """Return a file with the reader that fits its suffix and the kind of its corpus."""
    suffix = suffix_of(path)
    if is_json_lines(path):
        reader = functools.partial(read_json_lines_span, text_key=text_key)
    elif suffix not in known_suffixes():
        raise CorpusError(f"{path}: unknown suffix {suffix or 'none'!r}; known are {', '.join(known_suffixes())}")
    elif kind == "text" and suffix == ".py":
        reader = read_docstrings
    elif suffix in PROSE_SUFFIXES and kind == "text":
        reader = read_prose
    else:
        reader = read_source
    status = path.stat()
    divider = divide_json_lines if is_json_lines(path) and suffix not in PACKED_SUFFIXES else None
    return InputFile(path, name, status.st_size, str(status.st_mtime_ns), reader, divider)


def suffix_of(path: Path) -> str:
    """Return the suffix as the tables have it."""
    return path.suffix.lower()


@functools.cache
def known_suffixes() -> tuple[str, ...]:
    """Return every suffix a file named by itself may have."""
    return (*JSON_LINES_SUFFIXES, *sorted({suffix for table in LANGUAGES.values() for suffix in table}))


def fingerprint_inputs(spec: CorpusSpec, inputs: list[InputFile]) -> str:
    """Return a hash of what is read and how: names, sizes and times of the files, not their folder."""
    digest = hashlib.sha256(f"{READING_VERSION}\0{spec.kind}\0{spec.text_key}".encode())
    for file in sorted(inputs, key=lambda file: (file.name, file.num_bytes, file.stamp)):
        digest.update(f"\0{file.name}\0{file.num_bytes}\0{file.stamp}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
