"""What each document of a corpus is and where it came from, in two files beside it.

PREFIX.documents.npy holds, in the order of the input, each document's digest, its number in the corpus and its size (TABLE);
PREFIX.documents.tsv.zst a line for each in the same order: location, origin, licence, language, kind, parted by tabs, empty where unknown.
Where near duplicates were looked for, PREFIX.signatures.npy holds their signatures, uint8 [documents, permutations].
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard
from numpy.lib import format as npy

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import writing

__all__ = ["TABLE", "DocumentLines", "DocumentOrigin", "read_origins", "read_signatures", "read_table", "write_table"]

TABLE = np.dtype([("digest", "V16"), ("document", "<i8"), ("num_bytes", "<u4")])
COMPRESSION_LEVEL = 3


@dataclass(frozen=True)
class DocumentOrigin:
    """One document of a corpus: its number there, the hash of its text, and what its input said of it."""

    document: int
    num_bytes: int
    num_tokens: int  # with those that begin and end it
    digest: str  # XXH3 of the text as UTF-8, 128 bits, in hexadecimal digits
    location: str
    origin: str | None
    licence: str | None
    language: str | None
    kind: str


@dataclass(frozen=True)
class DocumentLines:
    """Some documents: rows of TABLE, the lines that belong to them, and their signatures."""

    rows: np.ndarray
    lines: bytes
    signatures: np.ndarray | None = None


def write_table(prefix: str, num_documents: int, pieces: Iterable[DocumentLines], permutations: int | None) -> None:
    """Write both files, or three where there are signatures, each complete or absent."""
    if permutations is None:
        Path(f"{prefix}.signatures.npy").unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(writing(f"{prefix}.documents.npy", "wb"))
        lines = stack.enter_context(writing(f"{prefix}.documents.tsv.zst", "wb"))
        npy.write_array_header_1_0(table, npy_header(TABLE, (num_documents,)))
        packed = stack.enter_context(zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).stream_writer(lines, closefd=False))
        signatures = None
        if permutations is not None:
            signatures = stack.enter_context(writing(f"{prefix}.signatures.npy", "wb"))
            npy.write_array_header_1_0(signatures, npy_header(np.dtype(np.uint8), (num_documents, permutations)))
        for piece in pieces:
            table.write(piece.rows.tobytes())
            packed.write(piece.lines)
            if signatures is not None and piece.signatures is not None:
                signatures.write(piece.signatures.tobytes())


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> dict:
    """Return what an .npy file says of its array."""
    return {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}


def read_table(prefix: str) -> np.ndarray:
    """Return TABLE of a corpus, a memory map; raises CorpusError where there is none."""
    return read_array(f"{prefix}.documents.npy", TABLE)


def read_signatures(prefix: str) -> np.ndarray | None:
    """Return the signatures of a corpus, a memory map, or None where near duplicates were not looked for."""
    path = f"{prefix}.signatures.npy"
    return read_array(path, np.dtype(np.uint8)) if Path(path).is_file() else None


def read_array(path: str, dtype: np.dtype) -> np.ndarray:
    """Map an array; raises CorpusError where it is not there or of another kind."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as fault:
        raise CorpusError(f"{path}: cannot be read ({fault}); prepare the corpus again, this version writes it beside each") from None
    if array.dtype != dtype:
        raise CorpusError(f"{path}: holds {array.dtype}, expected {dtype}; prepare the corpus again")
    return array


def read_origins(prefix: str) -> Iterator[DocumentOrigin]:
    """Yield the documents of a corpus in the order of its input; raises CorpusError where it does not say them."""
    table, path = read_table(prefix), f"{prefix}.documents.tsv.zst"
    lengths = np.asarray(IndexedReader(prefix).document_lengths)
    try:
        with open(path, "rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as stream:
            for row, line in zip(table, lines_of(stream), strict=True):
                location, origin, licence, language, kind = line.rsplit("\t", 4)  # a path may hold tabs
                digest, known = row["digest"].tobytes().hex(), (origin or None, licence or None, language or None, kind)
                number = int(row["document"])
                yield DocumentOrigin(number, int(row["num_bytes"]), int(lengths[number]), digest, location, *known)
    except (OSError, ValueError, IndexError, zstandard.ZstdError) as fault:
        raise CorpusError(f"{path}: cannot be read ({fault}); prepare the corpus again") from None


def lines_of(stream) -> Iterator[str]:
    """Yield the lines of a stream of bytes; file names may hold bytes that are no text."""
    left = b""
    while block := stream.read(1 << 20):
        *whole, left = (left + block).split(b"\n")
        yield from (line.decode("utf-8", "surrogateescape") for line in whole)
    if left:
        raise ValueError("it ends in the middle of a line")
