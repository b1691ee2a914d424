"""Text of files in whatever encoding they have: known by a byte order mark, by what they declare, or else guessed with care.

Order: byte order mark; UTF-8; UTF-16 without a mark, by where its zero bytes stand; a declaration (Python's coding line, XML, HTML, CSS);
a guess of chardet that is at least as likely as not. What is converted is counted under its encoding.
"""

import codecs
import re

__all__ = ["decode_text", "is_binary"]

MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
HEAD_BYTES, GUESSED_BYTES = 8192, 1 << 16
DECLARED = (
    re.compile(rb"\A[^\n]{0,300}\n?[ \t\f]{0,20}(?:#|//|/\*|;|--|%|\"|<!--|dnl)?[^\n]{0,300}?coding[:=][ \t]{0,9}([-\w.]{1,40})"),
    re.compile(rb"\A\s{0,99}<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([-\w.]{1,40})"),
    re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([-\w.]{1,40})", re.IGNORECASE),
    re.compile(rb"\A@charset \"([-\w.]{1,40})\""),
)
# Codecs that are no encodings of files, or take time that does not go with their length.
NEVER = frozenset({"utf-7", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem", "utf-8"})
LEAST_CONFIDENCE = 0.5
CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b\x1a"))
MOST_CONTROL_SHARE = 0.005


def decode_text(data: bytes) -> tuple[str, str | None] | None:
    """Return (text, encoding it was converted from), None for the encoding of plain UTF-8; None for what cannot be read as text."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            marked = decoded(data[len(mark) :], encoding)
            return None if marked is None else (marked, None if encoding == "utf-8" else encoding[:-3])
    plain = decoded(data, "utf-8")
    if plain is not None and "\0" not in plain[:HEAD_BYTES]:
        return plain, None
    for likely in (pattern_of_zeros, declared_encoding, guessed_encoding):
        name = likely(data)
        if name and (text := decoded(data, name)) is not None and "\0" not in text[:HEAD_BYTES]:
            return text, codecs.lookup(name).name
    return None


def is_binary(data: bytes) -> bool:
    """Say whether bytes are no text in any encoding: zero bytes that are not UTF-16's or UTF-32's, or many control characters."""
    head = data[:HEAD_BYTES]
    if any(data.startswith(mark) for mark, _ in MARKS) or pattern_of_zeros(data):
        return False
    return b"\0" in head or len(head) - len(head.translate(None, CONTROL)) > MOST_CONTROL_SHARE * len(head)


def decoded(data: bytes, encoding: str) -> str | None:
    """Return the text some bytes are in an encoding, None where they are none."""
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError, ValueError):
        return None


def pattern_of_zeros(data: bytes) -> str | None:
    """Return the order of UTF-16 without a mark: of text in alphabets, every other byte is zero."""
    head = data[:HEAD_BYTES]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) >= 4 and len(data) % 2 == 0 and 4 * max(even, odd) > len(head) and 20 * min(even, odd) < len(head):
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def declared_encoding(data: bytes) -> str | None:
    """Return the encoding a file says it has, if there is one of that name."""
    for pattern in DECLARED:
        if found := pattern.search(data[:1024]):
            try:
                name = codecs.lookup(found[1].decode("ascii", "replace")).name
            except LookupError:
                continue
            return name if name.replace("_", "-") not in NEVER else None
    return None


def is_damaged_unicode(data: bytes) -> bool:
    """Say whether bytes are UTF-8 but for a few: more of them are characters than are not, as in no other encoding."""
    text = data[: 1 << 20].decode("utf-8", "replace")
    replaced = text.count("\ufffd")
    return len(text) - sum(map(str.isascii, text)) > 2 * replaced


def guessed_encoding(data: bytes) -> str | None:
    """Return the encoding that lines with bytes beyond ASCII speak for, None where none is likely."""
    if is_binary(data) or is_damaged_unicode(data):
        return None
    import chardet

    telling = b"\n".join(line for line in data[: 1 << 20].split(b"\n") if not line.isascii())[:GUESSED_BYTES]
    found = chardet.detect(telling)
    name, confidence = found["encoding"], found["confidence"] or 0.0
    return str(name) if name and confidence >= LEAST_CONFIDENCE and name.lower() not in NEVER else None
