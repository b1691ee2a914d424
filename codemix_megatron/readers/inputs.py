"""From what a recipe names (files, folders, globs, URLs, git:REPOSITORY, python:code) to the files that are read."""

import functools
import glob
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.conversations import ConversationRule
from codemix_megatron.readers.documents import InputFile, unreadable
from codemix_megatron.readers.folder_survey import TABLE_SUFFIXES, Say, by_suffix_text, choose_files, partitions_of, say_what_is_left
from codemix_megatron.readers.git_histories import git_input
from codemix_megatron.readers.issue_threads import read_issue_threads
from codemix_megatron.readers.json_lines import (
    JSON_LINES_SUFFIXES,
    divide_lines,
    is_json_lines,
    is_json_value,
    is_shard,
    read_json_lines,
    read_json_value,
    read_text_lines,
)
from codemix_megatron.readers.licence_texts import nearest_licence
from codemix_megatron.readers.notebooks import read_notebook
from codemix_megatron.readers.plugin_readers import inputs_of_plugin, reader_plugin
from codemix_megatron.readers.record_documents import ConversationKeys, RecordKeys
from codemix_megatron.readers.remote_files import FoundFile, remote_files
from codemix_megatron.readers.repositories import repository_input
from codemix_megatron.readers.source_files import (
    PROSE_SUFFIXES,
    is_wanted,
    leads_outside,
    read_docstrings,
    read_paragraphs,
    read_prose,
    read_source,
    walk_folder,
)
from codemix_megatron.readers.source_languages import LANGUAGES
from codemix_megatron.readers.stack_exchange import read_posts
from codemix_megatron.readers.standard_library import find_library_inputs
from codemix_megatron.readers.streams import PACKED_SUFFIXES, is_url, plain_suffix
from codemix_megatron.readers.tables import ARROW_SUFFIXES, PARQUET_SUFFIXES, divide_parquet, read_arrow, read_parquet
from codemix_megatron.recipe.schema import CorpusSpec

__all__ = ["READING_VERSION", "find_inputs"]

READING_VERSION = 4  # count up when the same files would give other documents
POSTS = "posts.xml"


def silent(*_) -> None:
    """Say nothing."""


def find_inputs(spec: CorpusSpec, *, where: str, say: Say = silent) -> list[InputFile]:
    """Return the files of a corpus in a stable order; raises CorpusError for a spec that names nothing.

    `where` is the recipe key for messages, such as `corpora.text.documents`; `say` gets what folders and globs hold that is not read.
    """
    inputs = []
    for index, named in enumerate(spec.documents):
        try:
            inputs += inputs_of(named, spec, functools.partial(say_of, say, f"{where}[{index}]"))
        except CorpusError as fault:
            raise CorpusError(f"{where}[{index}]: {fault}", exit_code=fault.exit_code) from None
        except OSError as fault:
            raise CorpusError(f"{where}[{index}]: {unreadable(fault.filename or named, fault)}") from None
    return inputs


def say_of(say: Say, key: str, line: str) -> None:
    """Say something of one entry of `documents`."""
    say(f"{key}: {line}")


def inputs_of(named: str, spec: CorpusSpec, say: Say = silent) -> list[InputFile]:
    """Return the files behind one entry of `documents`."""
    reader, colon, rest = named.partition(":")
    if reader == "python" and colon:
        return find_library_inputs(named)
    if reader in READERS and colon:
        return READERS[reader](rest, spec)
    if is_url(named):
        return remote_inputs(named, spec, say)
    if plugin := reader_plugin(named):
        return inputs_of_plugin(plugin, rest, spec)
    path = Path(named).expanduser()
    if path.is_dir():
        return folder_inputs(path, spec, say)
    if path.is_file():
        return [as_input(local_file(path), spec)]
    if path.exists():
        raise CorpusError(f"{named}: neither a file nor a folder; copy the documents into a file")
    if glob.has_magic(str(path)):
        return list(glob_inputs(str(path), spec, say))
    raise CorpusError(
        f"{named}: nothing is there; give a file, a folder, a glob such as data/*.jsonl, a URL, git:REPOSITORY, repositories:FOLDER,"
        " python:text, python:code or python:code-without-docstrings"
    )


def local_file(path: Path, name: str | None = None) -> FoundFile:
    """Return a file of this machine; `name` is its path below the folder it was looked for in."""
    status = path.stat()
    return FoundFile(path, name or path.name, status.st_size, str(status.st_mtime_ns))


def glob_inputs(pattern: str, spec: CorpusSpec, say: Say = silent) -> Iterator[InputFile]:
    """Yield the files a glob matches; folders among them are searched, files of unknown suffix skipped."""
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    found = [path for path in matches if path.is_file()]
    files = [path for path in found if is_known(path) or (not path.suffix and is_wanted(path, spec.kind))]
    # `**` matches folders as well as what is in them; only when no file matched are folders meant.
    folders = [] if files else [path for path in matches if path.is_dir()]
    if not files and not folders:
        matched = f"{len(found)} files ({by_suffix_text(found)}), none of a known suffix" if matches else "nothing"
        raise CorpusError(f"{pattern}: matches {matched}; known are {', '.join(known_suffixes())}")
    say_what_is_left(say, pattern, files, sorted({*found} - {*files}) if files else [])
    for path in files:
        yield as_input(local_file(path), spec)
    for path in folders:
        yield from folder_inputs(path, spec, say)


def folder_inputs(folder: Path, spec: CorpusSpec, say: Say = silent) -> list[InputFile]:
    """Return the files of a folder: its documents of this kind, or its shards when it is a folder of those."""
    links: list[Path] = []
    files = list(walk_folder(folder, links))
    if not files:  # a folder of links, as those of the Hugging Face hub's cache are
        files, links = [path for path in links if leads_outside(path, folder)], []
    shards = [path for path in links if (is_shard(path) or path.suffix.lower() in TABLE_SUFFIXES) and leads_outside(path, folder)]
    files = sorted([*files, *shards]) if shards else files
    sources = [path for path in files if is_wanted(path, spec.kind)]
    chosen, are_sources = choose_files(str(folder), files, sources, spec.kind)
    say_what_is_left(say, str(folder), chosen, sorted({*files} - {*chosen}), len(links) - len(shards))
    licences: dict[Path, str | None] = {}
    return [
        as_input(
            local_file(path, path.relative_to(folder).as_posix()), spec, nearest_licence(path.parent, folder, licences), in_tree=are_sources
        )
        for path in chosen
    ]


def remote_inputs(url: str, spec: CorpusSpec, say: Say = silent) -> list[InputFile]:
    """Return the files behind a URL: one, those of a glob, or those of a folder."""
    files, is_folder = remote_files(url)
    in_tree = False
    if is_folder:
        paths = {Path(file.name): file for file in files}
        sources = [path for path in paths if path.suffix.lower() in LANGUAGES[spec.kind]]
        chosen, in_tree = choose_files(url, list(paths), sources, spec.kind)
        say_what_is_left(say, url, chosen, sorted({*paths} - {*chosen}))
        files = [paths[path] for path in chosen]
    elif len(files) != 1:
        files = [file for file in files if is_known(file.name)]
    if not files:
        raise CorpusError(f"{url}: matches no file of a known suffix; known are {', '.join(known_suffixes())}")
    return [as_input(file, spec, in_tree=in_tree) for file in files]


def as_input(file: FoundFile, spec: CorpusSpec, licence: str | None = None, *, in_tree: bool = False) -> InputFile:
    """Return a file with the reader that fits its suffix and the kind of its corpus; .json in a tree is somebody's settings."""
    suffix, name, kind = plain_suffix(file.name), file.name.lower(), spec.kind
    keys = replace(record_keys(spec), partitions=partitions_of(file.path))
    reader: Callable[..., Any]
    divider: Callable[..., Any] | None = None
    is_packed = name.endswith(PACKED_SUFFIXES)
    if is_json_lines(name) and not (in_tree and name.endswith(".json")):
        if is_json_value(file.path):
            return InputFile(file.path, file.name, file.num_bytes, file.stamp, functools.partial(read_json_value, keys=keys))
        reader, divider = functools.partial(read_json_lines, keys=keys), divide_lines
    elif suffix in PARQUET_SUFFIXES and not is_packed:
        reader, divider = functools.partial(read_parquet, keys=keys), divide_parquet
    elif suffix in ARROW_SUFFIXES and not is_packed:
        reader = functools.partial(read_arrow, keys=keys)
    elif spec.conversations is not None:
        raise CorpusError(
            f"{file.path}: conversations are read from JSON lines, JSON arrays, Parquet and Arrow; take it out of `documents`"
        )
    elif suffix == ".ipynb":
        reader = functools.partial(read_notebook, kind=adjacent(kind), licence=licence)
    elif not is_known(file.name) and (is_packed or not isinstance(file.path, Path) or not is_wanted(file.path, kind)):
        raise CorpusError(f"{file.path}: unknown suffix {suffix or 'none'!r}; known are {', '.join(known_suffixes())}")
    elif suffix == ".txt" and spec.text_documents == "line":
        reader, divider = read_text_lines, divide_lines
    elif suffix == ".txt" and spec.text_documents == "paragraph":
        reader = read_paragraphs
    elif kind == "text" and suffix == ".py":
        reader = read_docstrings
    elif (suffix in PROSE_SUFFIXES or not suffix) and kind == "text":
        reader = read_prose
    else:
        reader = functools.partial(read_source, kind=kind, licence=licence)
    return InputFile(file.path, file.name, file.num_bytes, file.stamp, reader, None if is_packed else divider)


def record_keys(spec: CorpusSpec) -> RecordKeys:
    """Return under which keys the records of a corpus hold what is read; its chat template is read now."""
    keys = RecordKeys.of(spec)
    if spec.conversations is None:
        return keys
    rule = ConversationRule.of(spec.conversations, "conversations.template")
    return ConversationKeys(keys.corpus_kind, keys.text, keys.language, keys.licence, keys.origin, rule=rule)


def adjacent(kind: str) -> str | None:
    """Return what a commit, an issue, a notebook or a post is inside a corpus of code; elsewhere they are what their corpus is."""
    return "code_adjacent" if kind == "code" else None


def is_known(path) -> bool:
    """Say whether a file is named like one of a kind that is read."""
    return str(path).lower().endswith(known_suffixes()) and bool(plain_suffix(path))


@functools.cache
def known_suffixes() -> tuple[str, ...]:
    """Return every suffix a file named by itself may have."""
    sources = sorted({suffix for table in LANGUAGES.values() for suffix in table})
    return (
        *JSON_LINES_SUFFIXES,
        *TABLE_SUFFIXES,
        *(f"{prose}{packed}" for prose in PROSE_SUFFIXES for packed in PACKED_SUFFIXES),
        *sources,
    )


def named_files(named: str) -> list[FoundFile]:
    """Return the files of a path, a glob or a URL whatever their suffix; raises CorpusError for none."""
    if is_url(named):
        return remote_files(named)[0]
    path = Path(named).expanduser()
    matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        raise CorpusError(f"{named}: nothing is there")
    return [local_file(match) for match in matches]


def git_inputs(named: str, spec: CorpusSpec) -> list[InputFile]:
    """Return the histories of the repositories a path or a glob names."""
    return [git_input(Path(file.path), adjacent(spec.kind)) for file in named_files(named)]


def issue_inputs(named: str, spec: CorpusSpec) -> list[InputFile]:
    """Return exports of issues and pull requests as inputs."""
    inputs = []
    for file in named_files(named):
        if not is_json_lines(file.name):
            raise CorpusError(f"issues:{file.path}: not JSON lines (.jsonl, .jsonl.gz, .jsonl.zst)")
        divider = None if file.name.lower().endswith(PACKED_SUFFIXES) else divide_lines
        reader = functools.partial(read_issue_threads, kind=adjacent(spec.kind))
        inputs.append(InputFile(file.path, file.name, file.num_bytes, file.stamp, reader, divider))
    return inputs


def posts_inputs(named: str, spec: CorpusSpec) -> list[InputFile]:
    """Return the Posts.xml of StackExchange dumps as inputs; a folder of a site stands for its own."""
    inputs = []
    for file in named_files(named):
        if isinstance(file.path, Path) and file.path.is_dir():
            posts = next((path for path in sorted(file.path.iterdir()) if path.name.lower().startswith(POSTS)), None)
            if posts is None:
                raise CorpusError(f"stackexchange:{file.path}: no Posts.xml in it; unpack the .7z of a site")
            file = local_file(posts, f"{file.path.name}/{posts.name}")
        reader = functools.partial(read_posts, kind=adjacent(spec.kind), num_bytes=file.num_bytes)
        inputs.append(InputFile(file.path, file.name, file.num_bytes, file.stamp, reader))
    return inputs


def repository_inputs(named: str, spec: CorpusSpec) -> list[InputFile]:
    """Return the repositories a path or a glob names, each read as one; files beside them are none."""
    found = [Path(file.path) for file in named_files(named)]
    folders = [path for path in found if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        raise CorpusError(f"repositories:{named}: {len(found)} files and no folder; name repositories, or a glob of them such as ~/src/*")
    return [repository_input(folder, spec) for folder in folders]


READERS = {"git": git_inputs, "repositories": repository_inputs, "issues": issue_inputs, "stackexchange": posts_inputs}
