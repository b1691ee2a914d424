"""What readers yield: documents, and places where there should have been one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from codemix_megatron.errors import CorpusError

__all__ = ["EMPTY", "BadDocument", "Document", "InputFile", "Position", "check_text", "decode_file", "unreadable"]

EMPTY = "empty text"


@dataclass(frozen=True, slots=True)
class Document:
    """One text to train on; `identity` says where it stands, as file or file:line."""

    text: str
    identity: str
    language: str | None = None
    licence: str | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class BadDocument:
    """A place that gave no document; `harmless` ones do not count as damage of the input."""

    place: str
    reason: str
    harmless: bool = False


@dataclass
class Position:
    """How far a reader has come in its file, for progress bars."""

    bytes_read: int = 0


@dataclass(frozen=True)
class InputFile:
    """One file of a corpus and the function that reads its documents.

    `name` does not depend on where the data lie; `name`, `num_bytes` and `stamp` make the fingerprint.
    """

    path: Path
    name: str
    num_bytes: int
    stamp: str
    reader: Callable[[Path, str, Position], Iterator[Document | BadDocument]] = field(compare=False)

    def read(self, position: Position | None = None) -> Iterator[Document | BadDocument]:
        """Yield documents in the file's order; raises CorpusError when the file as a whole cannot be read."""
        try:
            yield from self.reader(self.path, self.name, position or Position())
        except OSError as fault:
            raise unreadable(self.path, fault) from None


def unreadable(path, fault: OSError) -> CorpusError:
    """Return the error for a file the system refuses to read."""
    return CorpusError(f"{path}: cannot be read ({fault.strerror or fault}); mend or remove it, or take it out of `documents`")


def check_text(text, place: str, **about) -> Document | BadDocument:
    """Return a document, or why the text cannot be one."""
    if text is None:
        return BadDocument(place, "null text")
    if not isinstance(text, str):
        return BadDocument(place, "text is not a string")
    if not text.strip():
        return BadDocument(place, EMPTY, harmless=True)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return BadDocument(place, "lone surrogate")
    return Document(text, place, **about)


def decode_file(data: bytes, place: str, **about) -> Document | BadDocument:
    """Return the document a whole file holds; a byte order mark is left out."""
    try:
        return check_text(data.decode("utf-8-sig"), place, **about)
    except UnicodeDecodeError:
        return BadDocument(place, "invalid UTF-8")
