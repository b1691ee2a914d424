"""What may reach a terminal: text without the control characters that terminals obey, in an encoding that holds all of it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["PrintableStream", "printable", "printable_output"]

# C0 but tab and line end, DEL, C1, and the marks that turn the direction of text around.
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
DIRECTION = {code: f"\\u{code:04x}" for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)}
SURROGATES = {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}
SPELLED = CONTROL | DIRECTION | SURROGATES


def printable(text: str) -> str:
    """Return the text with control characters and what no encoding holds spelled out."""
    return text if text.isprintable() and text.isascii() else text.translate(SPELLED)


class PrintableStream:
    """A stream that spells out control characters; `plain` is the one below, for what draws with them on purpose."""

    def __init__(self, plain):
        self.plain = plain

    def write(self, text: str) -> int:
        """Write a text; a carriage return at the beginning or end of it is a progress line's own."""
        body = text.strip("\r")
        if body != text:
            before, _, after = text.partition(body) if body else (text, "", "")
            self.plain.write(f"{before}{printable(body)}{after}")
        else:
            self.plain.write(printable(text))
        return len(text)

    def __getattr__(self, name: str):
        return getattr(self.plain, name)

    def flush(self) -> None:
        """Flush the stream below."""
        self.plain.flush()

    def isatty(self) -> bool:
        """Say whether the stream below is a terminal."""
        return self.plain.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream below."""
        return self.plain.fileno()


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Have everything that is printed pass through here, whoever prints it."""
    before = sys.stdout, sys.stderr
    wrapped: list[Any] = [stream if isinstance(stream, PrintableStream) else PrintableStream(stream) for stream in before]
    sys.stdout, sys.stderr = wrapped
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
