"""What a folder or a glob holds, which of it is read, and what is said of the rest."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.json_lines import is_shard
from codemix_megatron.readers.source_languages import LANGUAGES
from codemix_megatron.readers.streams import PACKED_SUFFIXES
from codemix_megatron.readers.tables import ARROW_SUFFIXES, PARQUET_SUFFIXES

__all__ = ["TABLE_SUFFIXES", "Say", "by_suffix_text", "choose_files", "partitions_of", "say_what_is_left"]

Say = Callable[[str], None]  # told what a user may wonder about
TABLE_SUFFIXES = (*PARQUET_SUFFIXES, *ARROW_SUFFIXES)
ABOUT_A_FOLDER = ("readme", "license", "licence", "notice", "changelog", "citation")
CLEAR_MAJORITY = 10  # times as many files of one kind as of the other: the few are beside the many
MOST_SUFFIXES_NAMED = 8
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def choose_files(folder: str, files: list[Path], sources: list[Path], kind: str) -> tuple[list[Path], bool]:
    """Return (the shards among the files of a folder or else its sources, whether they are sources).

    Raises CorpusError where both could be meant, and where there is neither; says in any case what the folder holds.
    """
    shards = [path for path in files if is_shard(path) or path.suffix.lower() in TABLE_SUFFIXES]
    documents = [path for path in sources if path.suffix and not path.name.lower().startswith(ABOUT_A_FOLDER)]
    if shards and documents and CLEAR_MAJORITY * len(shards) > len(documents) and CLEAR_MAJORITY * len(documents) > len(shards):
        raise CorpusError(
            f"{folder}: holds JSON lines or tables ({len(shards)}, such as {shards[0].name}) and other documents ({len(documents)}, such as"
            f" {documents[0].name}), of {len(files)} files ({by_suffix_text(files)}); say which are meant with a glob,"
            f" {folder}/**/*{shards[0].suffix} or {folder}/**/*{documents[0].suffix}"
        )
    if not shards and not sources:
        wanted = ", ".join(sorted(LANGUAGES[kind]))
        held = f" ({by_suffix_text(files)})" if files else ""
        raise CorpusError(
            f"{folder}: {len(files)} files{held}, none a document of kind {kind}; searched for .jsonl, .jsonl.gz, .parquet, {wanted}"
        )
    is_shards = bool(shards) and len(shards) > len(documents)
    return (shards, False) if is_shards else (sources, True)


def say_what_is_left(say: Say, folder: str, read: Iterable[Path], left: Iterable[Path], links: int = 0) -> None:
    """Say of a folder or a glob how many files are read and how many are not, by suffix; nothing where all are read."""
    read, left = list(read), list(left)
    if left or links:
        others = [by_suffix_text(left)] if left else []
        others += [f"{links:,} links to other files"] if links else []
        say(
            f"{folder}: {len(read) + len(left) + links:,} files; reads {len(read):,} ({by_suffix_text(read)}), leaves out"
            f" {len(left) + links:,} ({', '.join(others)})"
        )


def by_suffix_text(files: Iterable[Path]) -> str:
    """Return how many files have which suffix, the most first: `.txt 300, .html 12, no suffix 4`."""
    counts = Counter(suffix_of(path) for path in files)
    named = [f"{suffix} {count:,}" for suffix, count in counts.most_common(MOST_SUFFIXES_NAMED)]
    rest = counts.total() - sum(count for _, count in counts.most_common(MOST_SUFFIXES_NAMED))
    return ", ".join([*named, f"others {rest:,}"] if rest else named)


def suffix_of(path: Path) -> str:
    """Return the suffix of a file, both of a packed one's: .txt.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        return "".join(suffixes)
    return suffixes[-1] if suffixes else "no suffix"


def partitions_of(path) -> tuple[tuple[str, str], ...]:
    """Return what the folders above a file say of all its records, as Hive and Spark write it: lang=python/part-0.parquet.

    >>> partitions_of("data/lang=c%2B%2B/year=2020/part-0.parquet")
    (('lang', 'c++'), ('year', '2020'))
    """
    from urllib.parse import unquote

    pairs = (step.partition("=") for step in str(path).replace("\\", "/").split("/")[:-1] if "=" in step)
    return tuple((unquote(key), unquote(value)) for key, _, value in pairs if key and value not in ("", NO_PARTITION))
