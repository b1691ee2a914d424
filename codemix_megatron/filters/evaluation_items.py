"""The items of evaluation sets, as files hold them: JSON lines (an item per line) and other texts (one item each)."""

import glob
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from codemix_megatron.errors import CorpusError

__all__ = ["evaluation_files", "read_items"]

JSON_LINES_SUFFIXES = (".jsonl", ".ndjson", ".json")


def evaluation_files(against: Iterable) -> list[Path]:
    """Return the files behind paths and globs, in a stable order; raises CorpusError for one that matches nothing."""
    files = []
    for named in map(str, against):
        matches = [named] if Path(named).is_file() else sorted(glob.glob(named, recursive=True))
        found = [Path(match) for match in matches if Path(match).is_file()]
        if not found:
            raise CorpusError(f"{named}: no evaluation set there; name JSON lines, text files, or one index (.npz)")
        if any(path.suffix == ".npz" for path in found):
            raise CorpusError(
                f"{named}: decontamination.against: a .npz index cannot be combined with other entries; give it alone, or the files it was built from"
            )
        files += found
    return files


def read_items(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, texts) of each item of a file; line 0 stands for the whole of it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise CorpusError(
            f"{path}: cannot be read ({getattr(fault, 'strerror', None) or fault}); fix it or take it out of `against`"
        ) from None
    if path.suffix.lower() not in JSON_LINES_SUFFIXES:
        yield 0, [text]
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                raise CorpusError(f"{path}:{number}: broken JSON; evaluation sets are read completely or not at all, so fix it") from None
            if keys and isinstance(record, dict):
                record = {key: record.get(key) for key in keys}
            yield number, list(strings_of(record))


def strings_of(value: Any) -> Iterator[str]:
    """Yield every string inside a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)
