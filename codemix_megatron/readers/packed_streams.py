"""Archives of several streams, one behind the other, as `pbzip2`, `xz -T` and `cat a.zst b.zst` write them.

Python's own files of bzip2 and xz take a stream whose beginning is damaged for waste behind the end, and stop there without a word; the
library of Zstandard does not notice a frame that was cut off. Here each is an EOFError, for documents would be missing.
"""

import bz2
import io
import lzma
from collections.abc import Callable
from typing import Any

__all__ = ["PackedStreams", "ZstandardFrames", "bzip2_streams", "xz_streams"]

PACKED_BYTES = 4096  # at a time: four bytes of Zstandard may hold a block of 128 KiB
UNPACKED_BYTES = 1 << 20
LARGEST_WINDOW_BYTES = 1 << 31  # what `zstd --ultra --long=31` writes


class PackedStreams(io.RawIOBase):
    """The content of all streams of a file; `begin` makes what unpacks one of them, `padding` may stand between them."""

    def __init__(self, raw, begin: Callable[[], Any], padding: bytes = b""):
        self.raw, self.begin, self.padding = raw, begin, padding
        self.stream, self.is_inside, self.is_first = begin(), False, True
        self.left, self.content = b"", b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer) -> int:
        """Fill a buffer with content; 0 at the end, EOFError in the middle of a stream and where there is none."""
        while not self.content:
            if self.stream.eof:
                self.left, self.stream, self.is_inside = self.stream.unused_data, self.begin(), False
            packed = self.more() if self.stream.needs_input else b""
            if not packed and self.stream.needs_input:
                return 0
            self.content = self.unpacked(packed)
        size = min(len(buffer), len(self.content))
        buffer[:size] = self.content[:size]
        self.content = self.content[size:]
        return size

    def more(self) -> bytes:
        """Return packed bytes to go on with; nothing at the end of the last stream."""
        while packed := self.left or self.raw.read(PACKED_BYTES):
            self.left = b""
            packed = packed if self.is_inside or self.is_first else packed.lstrip(self.padding)
            if packed:
                return packed
        if self.is_inside or self.is_first:
            raise EOFError("it ends in the middle of a stream")
        return b""

    def unpacked(self, packed: bytes) -> bytes:
        """Return what some bytes unpack to."""
        self.is_inside, self.is_first = True, False
        try:
            return self.stream.decompress(packed, UNPACKED_BYTES)
        except (OSError, lzma.LZMAError, ValueError) as fault:  # an OSError here is of no file
            raise EOFError(str(fault)) from None


def bzip2_streams(raw) -> PackedStreams:
    """Return the content of a .bz2 file."""
    return PackedStreams(raw, bz2.BZ2Decompressor)


def xz_streams(raw) -> PackedStreams:
    """Return the content of an .xz file, between whose streams zeros may stand."""
    return PackedStreams(raw, lzma.LZMADecompressor, b"\0")


class ZstandardFrames(io.RawIOBase):
    """The content of all frames of a .zst file; unlike the library's own reader it notices a frame that was cut off."""

    def __init__(self, raw):
        import zstandard

        self.raw, self.fault, self.content = raw, zstandard.ZstdError, b""
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES)
        self.frame, self.is_inside = self.decompressor.decompressobj(), False

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer) -> int:
        """Fill a buffer with content; 0 at the end, EOFError in the middle of a frame."""
        while not self.content:
            packed = self.frame.unused_data if self.frame.eof else b""
            if self.frame.eof:
                self.frame, self.is_inside = self.decompressor.decompressobj(), False
            packed = packed or self.raw.read(PACKED_BYTES)
            if not packed:
                if self.is_inside:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            try:
                self.content, self.is_inside = self.frame.decompress(packed), True
            except self.fault as fault:
                raise EOFError(str(fault)) from None
        size = min(len(buffer), len(self.content))
        buffer[:size] = self.content[:size]
        self.content = self.content[size:]
        return size
