"""What readers yield: documents, and locations where there should have been one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.encodings import decode_text, is_binary
from codemix_megatron.readers.read_ranges import RangeHash

__all__ = [
    "EMPTY",
    "BadDocument",
    "Document",
    "InputFile",
    "Position",
    "Span",
    "Turn",
    "check_text",
    "decode_file",
    "decode_line",
    "unreadable",
]

EMPTY = "empty text"


@dataclass(frozen=True, slots=True)
class Turn:
    """A piece of a conversation: what somebody says, or what its template writes around it, where special tokens are tokens."""

    text: str
    is_learned: bool
    is_template: bool


@dataclass(frozen=True, slots=True)
class Document:
    """One text to train on; `identity` says where it stands, as file or file:line.

    `kind` is None where the reader knows no better than its corpus; `rewritten` names what readers and filters changed in
    the text, such as "converted from utf-16" and "e-mail masked". A conversation has `turns`, which make up its text.
    """

    text: str
    identity: str
    language: str | None = None
    licence: str | None = None
    origin: str | None = None
    kind: str | None = None
    rewritten: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class BadDocument:
    """A location that gave no document; `harmless` ones do not count as damage of the input.

    `example` shows the text a filter dropped, cut short: what the manifest quotes. That of an empty text is the text.
    """

    location: str
    reason: str
    harmless: bool = False
    example: str = field(default="", compare=False)


@dataclass
class Position:
    """How far a reader has come in its file, for progress bars; and what takes the hash of the bytes it reads."""

    bytes_read: int = 0
    hashed: RangeHash | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file, in the units of its format: bytes of JSON lines, row groups of Parquet, batches of Arrow."""

    begin: int
    end: int
    num_bytes: int


@dataclass(frozen=True)
class InputFile:
    """One file of a corpus and the function that reads its documents.

    `name` does not depend on where the data lie; `name`, `num_bytes` and `stamp` make the fingerprint.
    `divider(path, num_bytes, part_bytes)` finds the spans that `reader` takes as keyword `span`.
    """

    path: Path | str  # text where it is a URL
    name: str
    num_bytes: int
    stamp: str
    reader: Callable[..., Iterator[Document | BadDocument]] = field(compare=False)
    divider: Callable[..., list["Span"]] | None = field(default=None, compare=False)
    file_bytes: int | None = None  # of the file that this is a part of
    first_byte: int = 0  # where it begins there; the ranges of all parts cover the file

    @property
    def whole_bytes(self) -> int:
        """Bytes of the whole file."""
        return self.num_bytes if self.file_bytes is None else self.file_bytes

    def divide(self, part_bytes: int) -> list["InputFile"]:
        """Return parts of about `part_bytes` that read one after the other give the documents of the file, in its order.

        A file whose format cannot be entered in the middle (archives, XML, histories) is one part: itself.
        """
        if self.divider is None or self.num_bytes <= part_bytes:
            return [self]
        spans = self.divider(self.path, self.num_bytes, part_bytes)
        return [
            replace(
                self, name=f"{self.name}[{span.begin}:{span.end}]", num_bytes=span.num_bytes, first_byte=first_byte,
                reader=partial(self.reader, span=span), divider=None, file_bytes=self.num_bytes,
            )
            for span, first_byte in zip(spans, accumulate((span.num_bytes for span in spans[:-1]), initial=0), strict=True)
        ]  # fmt: skip

    def read(self, position: Position | None = None) -> Iterator[Document | BadDocument]:
        """Yield documents in the file's order; raises CorpusError when the file as a whole cannot be read."""
        try:
            yield from self.reader(self.path, self.name, position or Position())
        except OSError as fault:
            raise unreadable(self.path, fault) from None


def unreadable(path, fault: OSError) -> CorpusError:
    """Return the error for a file the system refuses to read."""
    return CorpusError(f"{path}: cannot be read ({fault.strerror or fault}); fix or remove it, or take it out of `documents`")


def check_text(text, location: str, *, encodable: bool = False, **about) -> Document | BadDocument:
    """Return a document, or why the text cannot be one; `encodable` texts are known to hold no lone surrogate."""
    if text is None:
        return BadDocument(location, "null text")
    if not isinstance(text, str):
        return BadDocument(location, "text is not a string")
    if not text or text.isspace():
        return BadDocument(location, EMPTY, harmless=True, example=text)
    if not encodable and not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return BadDocument(location, "lone surrogate")
    return Document(text, location, **about)


def decode_line(data: bytes, location: str, **about) -> Document | BadDocument:
    """Return the document a line or a paragraph of UTF-8 holds; a byte order mark is left out."""
    try:
        return check_text(data.decode("utf-8-sig"), location, encodable=True, **about)
    except UnicodeDecodeError:
        return BadDocument(location, "invalid UTF-8")


def decode_file(data: bytes, location: str, **about) -> Document | BadDocument:
    """Return the document a whole file holds, in whatever encoding; a byte order mark is left out, a binary file is harmless."""
    found = decode_text(data)
    if found is None:
        return BadDocument(location, "binary file", harmless=True) if is_binary(data) else BadDocument(location, "unknown encoding")
    text, encoding = found
    converted = (f"converted from {encoding}",) if encoding else ()
    return check_text(text, location, rewritten=converted, **about)
