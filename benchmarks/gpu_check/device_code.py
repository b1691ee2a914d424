"""Device code of a CUDA shared object: that of other architectures becomes zeros, which take no room in an archive.

A fat binary is a header (magic 0xBA55ED50, version, header size, size) and entries (kind, version, header size, size, ..., architecture), as
NVIDIA's cuobjdump lists them.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["entries", "keep_architecture"]

MAGIC = struct.pack("<I", 0xBA55ED50)
HEADER = struct.Struct("<IHHQ")
ENTRY = struct.Struct("<HHIQ")
ARCHITECTURE = struct.Struct("<I")
ARCHITECTURE_AT = 28


def entries(data) -> Iterator[tuple[int, int, int]]:
    """Yield where the code of each entry begins, its bytes and its architecture, such as 90."""
    start = data.find(MAGIC)
    while start >= 0:
        _, version, header, size = HEADER.unpack_from(data, start)
        end = start + header + size
        if header != HEADER.size or version != 1 or end > len(data):  # these four bytes by chance
            start = data.find(MAGIC, start + len(MAGIC))
            continue
        inner = start + header
        while inner < end:
            _, _, own, length = ENTRY.unpack_from(data, inner)
            (architecture,) = ARCHITECTURE.unpack_from(data, inner + ARCHITECTURE_AT)
            yield inner + own, length, architecture
            inner += own + length
        start = data.find(MAGIC, end)


def keep_architecture(library: Path, wanted: int) -> int:
    """Fill the code of all other architectures with zeros; return the bytes that stay. Raises ValueError where there are none."""
    with library.open("r+b") as handle, mmap.mmap(handle.fileno(), 0) as data:
        found = list(entries(data))
        if not any(architecture == wanted for _, _, architecture in found):
            there = ", ".join(f"sm_{arch}" for arch in sorted({arch for _, _, arch in found})) or "none"
            raise ValueError(f"{library}: no device code for sm_{wanted}; there is {there}")
        for begin, size, architecture in found:
            if architecture != wanted:
                data[begin : begin + size] = bytes(size)
    return sum(size for _, size, architecture in found if architecture == wanted)
