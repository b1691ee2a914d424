"""Input files as binary streams, wherever they lie and however they are packed."""

import gzip
import io
import re
import zlib
from contextlib import contextmanager
from pathlib import Path

from codemix_megatron.errors import MACHINE_FAULT, CodemixError, CorpusError
from codemix_megatron.readers.packed_streams import ZstandardFrames, bzip2_streams, xz_streams
from codemix_megatron.readers.read_ranges import HashedFile, RangeHash
from codemix_megatron.redaction import with_variables

__all__ = ["PACKED_SUFFIXES", "is_url", "open_input", "open_unpacked", "plain_suffix", "without_query"]

PACKED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
BUFFER_BYTES = 1 << 20
HARMLESS_BYTES, MOST_EXPANSION = 256 << 20, 500
REMOTE_BLOCK_BYTES = 8 << 20


def is_url(path) -> bool:
    """Say whether a path is behind fsspec, such as s3://bucket/file."""
    return "://" in str(path)


def without_query(path) -> str:
    """Return a path as it is, of an address of HTTP without its query, in which signatures are: a file is named by what stands before."""
    text = str(path)
    return re.split(r"[?#]", text, maxsplit=1)[0] if text.startswith(("http://", "https://")) else text


def plain_suffix(path) -> str:
    """Return the suffix in lower case, that of the packed file where it is packed: .txt of notes.txt.gz."""
    name = without_query(path).lower()
    for packed in PACKED_SUFFIXES:
        name = name.removesuffix(packed)
    return Path(name).suffix


@contextmanager
def open_input(path, hashed: RangeHash | None = None):
    """Give a file, local or remote, as a seekable binary stream; a store's own errors become CorpusError.

    Of a local file, `hashed` takes the bytes that are read.
    """
    if not is_url(path):
        with (
            open(path, "rb", buffering=BUFFER_BYTES)
            if hashed is None
            else io.BufferedReader(HashedFile(path, hashed), BUFFER_BYTES) as stream
        ):
            yield stream
        return
    import fsspec

    try:
        with (
            fsspec.open(with_variables(str(path)), "rb", block_size=REMOTE_BLOCK_BYTES) as raw,
            io.BufferedReader(raw, BUFFER_BYTES) as stream,
        ):
            yield stream
    except (CodemixError, EOFError, zlib.error, gzip.BadGzipFile):
        raise
    except Exception as fault:  # every store has errors of its own
        raise CorpusError(f"{path}: cannot be read ({type(fault).__name__}: {fault}); try again", exit_code=MACHINE_FAULT) from fault


@contextmanager
def open_unpacked(path, hashed: RangeHash | None = None):
    """Give (stream of the content, stream of the file itself, which says how far reading has come).

    Raises CorpusError when an archive is damaged or ends too early.
    """
    with open_input(path, hashed) as raw:
        try:
            if without_query(path).lower().endswith(".gz"):
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield io.BufferedReader(Unpacking(stream, raw, path), BUFFER_BYTES), raw
            elif without_query(path).lower().endswith(".bz2"):
                yield io.BufferedReader(Unpacking(bzip2_streams(raw), raw, path), BUFFER_BYTES), raw
            elif without_query(path).lower().endswith(".xz"):
                yield io.BufferedReader(Unpacking(xz_streams(raw), raw, path), BUFFER_BYTES), raw
            elif without_query(path).lower().endswith(".zst"):
                yield io.BufferedReader(Unpacking(ZstandardFrames(raw), raw, path), BUFFER_BYTES), raw
            else:
                yield raw, raw
        except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
            raise CorpusError(f"{path}: damaged archive ({fault}); copy it again or take it out of `documents`") from None


class Unpacking(io.RawIOBase):
    """An archive's content, until it is so much more than the archive that nobody's documents are in it."""

    def __init__(self, content, raw, path):
        self.content, self.raw, self.path, self.num_bytes = content, raw, path, 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer) -> int:
        """Fill a buffer with content; raises CorpusError for a bomb."""
        size = self.content.readinto(buffer)
        self.num_bytes += size
        if self.num_bytes > HARMLESS_BYTES and self.num_bytes > MOST_EXPANSION * max(1, self.raw.tell()):
            raise CorpusError(
                f"{self.path}: {self.num_bytes >> 20} MiB from the first {self.raw.tell() >> 10} KiB of it; no archive of documents expands more"
                f" than {MOST_EXPANSION}-fold. Take it out of `documents`, or unpack it and look"
            )
        return size
