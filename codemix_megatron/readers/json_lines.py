"""Files of lines, plain or packed: JSON lines with an object per line, or text with a document per line."""

import contextlib
import json
from collections.abc import Iterator
from typing import BinaryIO

import orjson

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import BadDocument, Document, Position, Span, decode_line
from codemix_megatron.readers.record_documents import RecordKeys, record_document
from codemix_megatron.readers.streams import PACKED_SUFFIXES, open_input, open_unpacked, without_query

__all__ = [
    "JSON_LINES_SUFFIXES",
    "divide_lines",
    "is_json_lines",
    "is_json_value",
    "is_shard",
    "name_lines",
    "parse_record",
    "located_lines",
    "read_json_lines",
    "read_json_value",
    "read_text_lines",
]

JSON_LINES_SUFFIXES = tuple(f".{name}{packed}" for name in ("jsonl", "ndjson", "json") for packed in ("", *PACKED_SUFFIXES))
POSITION_EVERY_LINES = 64
FIRST_BYTES, LARGEST_VALUE_BYTES = 4096, 1 << 30
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
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


def read_json_lines(
    path, name: str, position: Position, *, keys: RecordKeys | None = None, span: Span | None = None
) -> Iterator[Document | BadDocument]:
    """Yield one document or bad document per line that is not blank; raises CorpusError for a damaged archive."""
    keys = keys or RecordKeys()
    for line, location in located_lines(path, position, span):
        yield parse_line(line, location, keys)


def is_json_value(path) -> bool:
    """Say whether a .json file holds one value over many lines - an array of records, or one record - and not a record per line."""
    name = without_query(path).lower()
    if not name.removesuffix(next((p for p in PACKED_SUFFIXES if name.endswith(p)), "")).endswith(".json"):
        return False
    with open_unpacked(path) as (stream, _):
        head = stream.read(FIRST_BYTES).removeprefix(BYTE_ORDER_MARK).lstrip()
    first = head.partition(b"\n")[0].strip()
    return first in (b"{", b"[") or (head.startswith(b"[") and head[1:].lstrip()[:1] in (b"{", b"]", b""))


def read_json_value(path, name: str, position: Position, *, keys: RecordKeys | None = None) -> Iterator[Document | BadDocument]:
    """Yield one document per record of an array, or that of a single record; the file is held in memory as a whole."""
    keys = keys or RecordKeys()
    with open_unpacked(path, position.hashed) as (stream, raw):
        data = stream.read(LARGEST_VALUE_BYTES + 1).removeprefix(BYTE_ORDER_MARK)
        position.bytes_read = raw.tell()
    if len(data) > LARGEST_VALUE_BYTES:
        raise CorpusError(
            f"{path}: a JSON array of more than {LARGEST_VALUE_BYTES:,} bytes; make JSON lines of it: jq -c '.[]' FILE > FILE.jsonl"
        )
    value, is_strict = parse_value(data, str(path))
    if isinstance(value, BadDocument):
        yield value
        return
    for number, record in enumerate(value if isinstance(value, list) else [value], 1):
        location = f"{path}[{number}]"
        yield (
            record_document(record, location, keys, encodable=is_strict)
            if isinstance(record, dict)
            else BadDocument(location, "not an object")
        )


def read_text_lines(path, name: str, position: Position, *, span: Span | None = None) -> Iterator[Document | BadDocument]:
    """Yield one document per line of a text file that is not blank; raises CorpusError for a damaged archive."""
    for line, location in located_lines(path, position, span):
        if len(line) >= LONGEST_LINE_BYTES and not line.endswith(b"\n"):
            yield BadDocument(location, LONG_LINE)
        else:
            yield decode_line(line.rstrip(b"\r\n"), location)


def located_lines(path, position: Position, span: Span | None) -> Iterator[tuple[bytes, str]]:
    """Yield the lines that are not blank and their locations; with a span, those that begin inside it.

    Lines before a span are not counted, so locations inside one are `file@offset of the line in bytes`.
    """
    if span is not None:
        yield from lines_of_span(path, position, span)
        return
    with open_unpacked(path, position.hashed) as (lines, raw):
        for number, line in enumerate(bounded_lines(lines), 1):
            if number % POSITION_EVERY_LINES == 0:
                position.bytes_read = raw.tell()
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if line.strip():
                yield line, f"{path}:{number}"


def lines_of_span(path, position: Position, span: Span) -> Iterator[tuple[bytes, str]]:
    """Yield the lines that begin inside a span of a plain file."""
    with open_input(path, position.hashed) as lines:
        bounded, offset = bounded_lines(lines), span.begin
        if span.begin:
            lines.seek(span.begin - 1)  # the line of that byte, be it only a line end, is of the span before
            next(bounded, b"")
            offset = lines.tell()
        while offset < span.end and (line := next(bounded, b"")):
            content = line.removeprefix(BYTE_ORDER_MARK) if offset == 0 else line
            if content.strip():
                yield content, f"{path}@{offset}"
            offset = lines.tell()
            position.bytes_read = min(offset, span.end) - span.begin


def bounded_lines(stream) -> Iterator[bytes]:
    """Yield the lines of a binary stream; of one that is too long the beginning, without its line end."""
    while line := stream.readline(LONGEST_LINE_BYTES):
        if len(line) == LONGEST_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(LONGEST_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        yield line


def divide_lines(path, num_bytes: int, part_bytes: int) -> list[Span]:
    """Return spans of bytes; a line belongs to the span its first byte is in, so that none is looked for."""
    return [Span(begin, end, end - begin) for begin in range(0, num_bytes, part_bytes) for end in [min(begin + part_bytes, num_bytes)]]


def name_lines(locations: list[str]) -> list[str]:
    """Return locations with `file@offset` of a line turned into `file:line`, where counting the lines before is cheap enough."""
    wanted: dict[str, set[int]] = {}
    for location in locations:
        path, at, offset = location.rpartition("@")
        if at and offset.isdigit() and int(offset) <= MOST_BYTES_COUNTED:
            wanted.setdefault(path, set()).add(int(offset))
    named = {
        f"{path}@{offset}": f"{path}:{line}" for path, offsets in wanted.items() for offset, line in count_lines(path, sorted(offsets))
    }
    return [named.get(location, location) for location in locations]


def count_lines(path: str, offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (offset, number of the line that begins there) for rising offsets; nothing for a file that is gone."""
    with contextlib.suppress(OSError), open(path, "rb") as handle:
        line = 1
        for offset in offsets:
            line += count_breaks(handle, offset)
            if handle.tell() < offset:
                return  # the file ends before
            yield offset, line


def count_breaks(handle: BinaryIO, end: int) -> int:
    """Read on up to byte `end`, or to the end of the file, and return the line breaks in between."""
    count = 0
    while block := handle.read(min(end - handle.tell(), 1 << 20)):
        count += block.count(b"\n")
    return count


def parse_line(line: bytes, location: str, keys: RecordKeys) -> Document | BadDocument:
    """Return the document of one line, or why there is none."""
    record, is_strict = parse_object(line, location)
    return record if isinstance(record, BadDocument) else record_document(record, location, keys, encodable=is_strict)


def parse_record(line: bytes, location: str) -> dict | BadDocument:
    """Return the object of one line, or why there is none."""
    return parse_object(line, location)[0]


def parse_object(line: bytes, location: str) -> tuple[dict | BadDocument, bool]:
    """Return the object of one line, or why there is none, and whether it is strict JSON, which has no lone surrogates."""
    record, is_strict = parse_value(line, location)
    return (record if isinstance(record, (dict, BadDocument)) else BadDocument(location, "not an object")), is_strict


def parse_value(data: bytes, location: str):
    """Return the value of some JSON, or why there is none, and whether it is strict."""
    try:
        return orjson.loads(data), True
    except orjson.JSONDecodeError:
        return parse_leniently(data, location), False


def parse_leniently(line: bytes, location: str):
    """Return the value of a line that is not strict JSON (NaN, a lone surrogate in some other key), or what is wrong with it."""
    if len(line) >= LONGEST_LINE_BYTES and not line.endswith(b"\n"):
        return BadDocument(location, LONG_LINE)
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return BadDocument(location, "invalid UTF-8")
    except (ValueError, RecursionError):
        return BadDocument(location, "broken JSON")
