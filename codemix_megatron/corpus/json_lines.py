"""JSON lines, plain or compressed: one object per line, its text under one key."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from codemix_megatron.corpus.documents import BadDocument, Document, Position, Span, check_text
from codemix_megatron.errors import CorpusError

__all__ = ["JSON_LINES_SUFFIXES", "divide_json_lines", "is_json_lines", "is_shard", "name_lines", "read_json_lines", "read_json_lines_span"]

JSON_LINES_SUFFIXES = tuple(f".{name}{packed}" for name in ("jsonl", "ndjson", "json") for packed in ("", ".gz", ".zst"))
POSITION_EVERY_LINES = 64
# A line is held in memory as bytes, as text and as ids at once: nine times its length and more.
LONGEST_LINE_BYTES = 64 << 20
LONG_LINE = f"line longer than {LONGEST_LINE_BYTES:,} bytes"
MOST_BYTES_COUNTED = 4 << 30  # of a file, to say in which line a document stands


def is_json_lines(path) -> bool:
    """Say whether a file's name is that of JSON lines."""
    return str(path).lower().endswith(JSON_LINES_SUFFIXES)


def is_shard(path) -> bool:
    """Say the same of a file met in a folder, where a plain .json is rather somebody's settings."""
    return is_json_lines(path) and not str(path).lower().endswith(".json")


def read_json_lines(path: Path, name: str, position: Position, *, text_key: str = "text") -> Iterator[Document | BadDocument]:
    """Yield one document or bad document per line that is not blank; raises CorpusError for a damaged archive."""
    with open(path, "rb", buffering=1 << 20) as raw, unpacked(raw, path) as lines:
        try:
            for number, line in enumerate(bounded_lines(lines), 1):
                if number % POSITION_EVERY_LINES == 0:
                    position.bytes_read = raw.tell()
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield parse_line(line, f"{path}:{number}", text_key)
        except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
            raise CorpusError(f"{path}: damaged archive ({fault}); copy it again or take it out of `documents`") from None


def bounded_lines(stream) -> Iterator[bytes]:
    """Yield the lines of a binary stream; of one that is too long the beginning, without its line end."""
    while line := stream.readline(LONGEST_LINE_BYTES):
        if len(line) == LONGEST_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(LONGEST_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        yield line


def divide_json_lines(path: Path, num_bytes: int, part_bytes: int) -> list[Span]:
    """Return spans of bytes; a line belongs to the span its first byte is in, so that none is looked for."""
    return [Span(begin, end, end - begin) for begin in range(0, num_bytes, part_bytes) for end in [min(begin + part_bytes, num_bytes)]]


def read_json_lines_span(
    path: Path, name: str, position: Position, *, text_key: str = "text", span: Span | None = None
) -> Iterator[Document | BadDocument]:
    """Yield the documents of the lines that begin inside `span`; all of the file without one.

    Lines before a span are not counted, so places inside one are `file@offset of the line in bytes`.
    """
    if span is None:
        yield from read_json_lines(path, name, position, text_key=text_key)
        return
    with open(path, "rb", buffering=1 << 20) as lines:
        bounded, offset = bounded_lines(lines), span.begin
        if span.begin:
            lines.seek(span.begin - 1)  # the line of that byte, be it only a line end, is of the span before
            next(bounded, b"")
            offset = lines.tell()
        while offset < span.end and (line := next(bounded, b"")):
            content = line.removeprefix(b"\xef\xbb\xbf") if offset == 0 else line
            if content.strip():
                yield parse_line(content, f"{path}@{offset}", text_key)
            offset = lines.tell()
            position.bytes_read = min(offset, span.end) - span.begin


def name_lines(places: list[str]) -> list[str]:
    """Return places with `file@offset` of a line turned into `file:line`, where counting the lines before is cheap enough."""
    wanted: dict[str, set[int]] = {}
    for place in places:
        path, at, offset = place.rpartition("@")
        if at and offset.isdigit() and int(offset) <= MOST_BYTES_COUNTED:
            wanted.setdefault(path, set()).add(int(offset))
    named = {f"{path}@{offset}": f"{path}:{line}" for path, offsets in wanted.items() for offset, line in count_lines(path, sorted(offsets))}
    return [named.get(place, place) for place in places]


def count_lines(path: str, offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (offset, number of the line that begins there) for rising offsets; nothing for a file that is gone."""
    try:
        with open(path, "rb") as handle:
            line = 1
            for offset in offsets:
                while left := offset - handle.tell():
                    block = handle.read(min(left, 1 << 20))
                    if not block:
                        return
                    line += block.count(b"\n")
                yield offset, line
    except OSError:
        return


@contextmanager
def unpacked(raw, path: Path):
    """Give a binary stream of lines, whatever the compression."""
    if path.suffix.lower() == ".gz":
        with gzip.GzipFile(fileobj=raw) as stream:
            yield io.BufferedReader(stream, 1 << 20)
    elif path.suffix.lower() == ".zst":
        try:
            import zstandard
        except ImportError:
            raise CorpusError(f"{path}: needs the package zstandard; `pip install zstandard`, or unpack the file") from None
        try:
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
                yield io.BufferedReader(stream, 1 << 20)
        except zstandard.ZstdError as fault:
            raise CorpusError(f"{path}: damaged archive ({fault}); copy it again or take it out of `documents`") from None
    else:
        yield raw


def parse_line(line: bytes, place: str, text_key: str) -> Document | BadDocument:
    """Return the document of one line, or why there is none."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        record = parse_leniently(line, place)
        if isinstance(record, BadDocument):
            return record
    if not isinstance(record, dict):
        return BadDocument(place, "not an object")
    if text_key not in record:
        return BadDocument(place, f"no key {text_key!r}")
    return check_text(
        record[text_key],
        place,
        language=first_word(record, "lang", "language"),
        licence=first_word(record, "license", "licence"),
        origin=first_word(record, "source", "url"),
    )


def parse_leniently(line: bytes, place: str):
    """Return the value of a line that is not strict JSON (NaN, a lone surrogate in some other key), or what is wrong with it."""
    if len(line) >= LONGEST_LINE_BYTES and not line.endswith(b"\n"):
        return BadDocument(place, LONG_LINE)
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return BadDocument(place, "invalid UTF-8")
    except (ValueError, RecursionError):
        return BadDocument(place, "broken JSON")


def first_word(record: dict, *keys: str) -> str | None:
    """Return the first of the keys that holds a non-empty string."""
    for key in keys:
        if isinstance(record.get(key), str) and record[key].strip():
            return record[key]
    return None
