"""Megatron's indexed data files: PREFIX.bin holds token ids end to end, PREFIX.idx says where documents begin.

Layout of .idx, little-endian: 9 bytes `MMIDIDX\\0\\0`, u64 version 1, u8 dtype code, u64 sequences,
u64 documents + 1, i32[sequences] lengths in tokens, i64[sequences] byte offsets, i64[documents + 1]
first sequence of each document; multimodal files end with i8[sequences] modes, which are ignored here.
Files written here are equal, byte for byte, to those of `megatron.core.datasets.indexed_dataset`.
"""

import contextlib
import errno
import hashlib
import mmap
import os
import struct
from array import array
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.records.atomic import partial_path, sync_folder

__all__ = ["IndexedReader", "IndexedWriter", "token_dtype"]

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
UINT16_VOCAB_LIMIT = 65500  # Megatron's DType.optimal_dtype: ids of smaller vocabularies fit uint16
INDEX_BLOCK_DOCUMENTS = 1 << 20
BUFFER_BYTES = 1 << 20

try:
    import fcntl
except ImportError:  # not on Windows; then two commands at once are not noticed
    fcntl = None  # type: ignore[assignment]


def token_dtype(vocab_size: int) -> np.dtype:
    """Return the dtype Megatron takes for a vocabulary: uint16 below 65500 ids, else int32."""
    return np.dtype(np.uint16 if vocab_size < UINT16_VOCAB_LIMIT else np.int32)


class IndexedWriter:
    """Writes documents one after the other; needs 4 bytes of memory per document.

    Use it as a context manager. Files carry partial names until `publish`; leaving the block without it
    removes them. `num_documents`, `num_tokens`, `bin_sha256` and `idx_sha256` say what was written.
    """

    def __init__(self, prefix, dtype):
        self.bin_path, self.idx_path = Path(f"{prefix}.bin"), Path(f"{prefix}.idx")
        self.dtype = np.dtype(dtype)
        self.largest_id = np.iinfo(self.dtype).max
        self.lengths = array("i")
        self.num_tokens = 0
        self.sealed = False
        self.bin_hash, self.idx_hash = hashlib.sha256(), hashlib.sha256()
        self.bin_path.parent.mkdir(parents=True, exist_ok=True)
        self.handle = open_alone(partial_path(self.bin_path), self.bin_path)

    def __enter__(self) -> "IndexedWriter":
        return self

    def __exit__(self, *_) -> None:
        self.discard()

    @property
    def num_documents(self) -> int:
        """Documents added so far."""
        return len(self.lengths)

    @property
    def num_bytes(self) -> int:
        """Bytes of tokens added so far."""
        return self.num_tokens * self.dtype.itemsize

    @property
    def bin_sha256(self) -> str:
        """Checksum of the tokens added so far."""
        return self.bin_hash.hexdigest()

    @property
    def idx_sha256(self) -> str:
        """Checksum of the index; of nothing before `seal`."""
        return self.idx_hash.hexdigest()

    def add(self, ids) -> None:
        """Append one document; one without ids becomes a document of no sequences, as in Megatron's tool."""
        ids = np.asarray(ids, dtype=None if len(ids) else self.dtype)
        if len(ids) and not 0 <= ids.min() <= ids.max() <= self.largest_id:
            raise CorpusError(f"{self.bin_path}: token ids {ids.min()} to {ids.max()} do not fit {self.dtype}; the tokenizer is damaged")
        if len(ids) > np.iinfo(np.int32).max:
            raise CorpusError(f"{self.bin_path}: a document of {len(ids)} tokens; the format ends at 2147483647, split the document")
        self.write(ids.astype(self.dtype, copy=False).tobytes())
        self.lengths.append(len(ids))
        self.num_tokens += len(ids)

    def write(self, data) -> None:
        """Append raw bytes and take them into the checksum."""
        self.handle.write(data)
        self.bin_hash.update(data)

    def extend(self, blocks: Iterable, lengths: np.ndarray) -> None:
        """Append documents of these lengths, whose ids come in whole buffers of this writer's dtype."""
        for block in blocks:
            self.write(block)
        self.lengths.frombytes(lengths.astype(np.intc).tobytes())
        self.num_tokens += int(lengths.sum())

    def seal(self) -> None:
        """Write the index and flush both files to disk, still under their partial names."""
        self.handle.flush()
        os.fsync(self.handle.fileno())
        with open(partial_path(self.idx_path), "wb", buffering=BUFFER_BYTES) as index:
            for block in index_blocks(np.frombuffer(self.lengths, dtype=np.int32), self.dtype):
                index.write(block)
                self.idx_hash.update(block)
            index.flush()
            os.fsync(index.fileno())
        self.sealed = True

    def publish(self) -> None:
        """Give both files their names; a reader sees both or, for an instant, a mismatch it refuses."""
        if not self.sealed:
            self.seal()
        os.replace(partial_path(self.bin_path), self.bin_path)
        os.replace(partial_path(self.idx_path), self.idx_path)
        self.handle.close()
        sync_folder(self.bin_path.parent)

    def discard(self) -> None:
        """Remove what was not published; safe to call twice."""
        if self.handle.closed:
            return
        for path in (self.bin_path, self.idx_path):
            partial_path(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a full disk refuses the last buffer once more
            self.handle.close()


def open_alone(partial: Path, final: Path):
    """Open a partial file for writing and hold a lock on it, so that two commands never write one corpus."""
    handle = open(partial, "ab", buffering=BUFFER_BYTES)  # noqa: SIM115 - the writer closes it
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and lock the other writer may have published this very file.
        if os.fstat(handle.fileno()).st_ino != os.stat(partial).st_ino:
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError):
        handle.close()
        raise CorpusError(f"{final}: another command is writing it; wait for it or give another prefix", exit_code=MACHINE_FAULT) from None
    except OSError as fault:
        if fault.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # file systems without locks
            raise
    handle.truncate(0)
    return handle


def index_blocks(lengths: np.ndarray, dtype: np.dtype):
    """Yield the bytes of an .idx file whose documents are one sequence each, or none where the length is 0."""
    sequences = lengths[lengths > 0]
    starts = range(0, len(lengths) + 1, INDEX_BLOCK_DOCUMENTS)
    yield HEADER.pack(MAGIC, VERSION, CODES[dtype], len(sequences), len(lengths) + 1)
    yield sequences.astype("<i4", copy=False).tobytes()
    yield from running_sums(sequences, dtype.itemsize, starts)
    yield struct.pack("<q", 0)
    document_ends = (np.cumsum(lengths[a:b] > 0) for a, b in pairwise([*starts, len(lengths)]))
    last = 0
    for ends in document_ends:
        if len(ends):
            yield (ends + last).astype("<i8").tobytes()
            last += int(ends[-1])


def running_sums(lengths: np.ndarray, scale: int, starts: range):
    """Yield the byte offset of each sequence, in blocks, so that memory stays small."""
    offset = 0
    for start in starts:
        block = lengths[start : start + starts.step].astype(np.int64)
        ends = np.cumsum(block) * scale + offset
        yield (ends - block * scale).astype("<i8").tobytes()
        offset = int(ends[-1]) if len(ends) else offset


class IndexedReader:
    """Reads PREFIX.bin and PREFIX.idx through memory maps; opening costs nothing whatever the size.

    Raises CorpusError when a file is missing or damaged. May be pickled and forked.
    """

    def __init__(self, prefix):
        self.prefix = str(prefix)
        if "://" in self.prefix:
            raise CorpusError(
                f"{prefix}: remote corpora can be trained on, but not prepared, packed, audited or scored; copy it here for that"
            )
        self.bin_path, self.idx_path = f"{prefix}.bin", f"{prefix}.idx"
        index = self.map_file(self.idx_path)
        self.dtype, num_sequences, num_starts = self.read_header(index)
        bounds = np.cumsum([HEADER.size, 4 * num_sequences, 8 * num_sequences, 8 * num_starts])
        self.sequence_lengths = index[bounds[0] : bounds[1]].view("<i4")
        self.sequence_offsets = index[bounds[1] : bounds[2]].view("<i8")
        self.document_starts = index[bounds[2] : bounds[3]].view("<i8")
        data = self.map_file(self.bin_path, random_access=True)
        self.check_sizes(num_sequences, len(data))
        self.stream = data.view(self.dtype)

    def __reduce__(self):
        return IndexedReader, (self.prefix,)

    def __len__(self) -> int:
        return self.num_documents

    @property
    def num_tokens(self) -> int:
        """Tokens in the file."""
        return len(self.stream)

    @property
    def num_documents(self) -> int:
        """Documents in the file."""
        return len(self.document_starts) - 1

    @property
    def document_lengths(self) -> np.ndarray:
        """Tokens of each document."""
        if self.num_documents == len(self.sequence_lengths):
            return self.sequence_lengths
        ends = np.concatenate([[0], np.cumsum(self.sequence_lengths, dtype=np.int64)])
        return np.diff(ends[self.document_starts])

    def document(self, i: int) -> np.ndarray:
        """Return the ids of document `i`, a view into the file."""
        if not 0 <= i < self.num_documents:
            raise IndexError(f"{self.bin_path}: no document {i}; there are {self.num_documents}, from 0")
        start, stop = (self.sequence_start(int(sequence)) for sequence in self.document_starts[i : i + 2])
        return self.stream[start:stop]

    def sequence_start(self, sequence: int) -> int:
        """Return the position of a sequence in the token stream; the end of the stream for the one after the last."""
        if sequence == len(self.sequence_offsets):
            return self.num_tokens
        return int(self.sequence_offsets[sequence]) // self.dtype.itemsize

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Return ids [start, stop) of all documents laid end to end, a view into the file."""
        if not 0 <= start <= stop <= self.num_tokens:
            raise IndexError(f"{self.bin_path}: no tokens [{start}, {stop}); there are {self.num_tokens}")
        return self.stream[start:stop]

    def map_file(self, path: str, *, random_access: bool = False) -> np.ndarray:
        """Return the bytes of a file as a read-only map."""
        try:
            with open(path, "rb") as handle:
                if os.fstat(handle.fileno()).st_size == 0:
                    return np.empty(0, dtype=np.uint8)
                mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise CorpusError(f"{path}: missing; run `codemix prepare` or give the prefix of a .bin/.idx pair") from None
        except OSError as fault:
            raise CorpusError(f"{path}: cannot be read ({fault.strerror}); check the file and its permissions") from None
        if random_access and hasattr(mmap, "MADV_RANDOM"):
            mapped.madvise(mmap.MADV_RANDOM)  # shuffled sequences: reading ahead halves the speed from a cold disk
        return np.frombuffer(mapped, dtype=np.uint8)

    def read_header(self, index: np.ndarray) -> tuple[np.dtype, int, int]:
        """Return dtype, sequences and document starts after checking them against the size of the file."""
        if len(index) < HEADER.size:
            raise self.damaged(self.idx_path, f"{len(index)} bytes, less than its header of {HEADER.size}")
        magic, version, code, num_sequences, num_starts = HEADER.unpack(index[: HEADER.size].tobytes())
        if magic != MAGIC:
            raise self.damaged(self.idx_path, f"begins with {magic!r}, not {MAGIC!r}; it is not a Megatron index")
        if version != VERSION:
            raise self.damaged(self.idx_path, f"version {version}, only {VERSION} is known")
        if code not in DTYPES:
            raise self.damaged(self.idx_path, f"dtype code {code}, allowed are {', '.join(map(str, DTYPES))}")
        wanted = HEADER.size + 12 * num_sequences + 8 * num_starts
        if num_starts < 1 or len(index) not in (wanted, wanted + num_sequences):
            raise self.damaged(
                self.idx_path, f"{len(index)} bytes, its header promises {wanted} ({num_sequences} sequences, {num_starts - 1} documents)"
            )
        return np.dtype(DTYPES[code]), num_sequences, num_starts

    def check_sizes(self, num_sequences: int, bin_bytes: int) -> None:
        """Check that the last entries of the index meet the ends of both files."""
        if self.document_starts[0] != 0 or self.document_starts[-1] != num_sequences:
            first, last = self.document_starts[0], self.document_starts[-1]
            raise self.damaged(self.idx_path, f"documents cover sequences {first} to {last}, there are {num_sequences}")
        end = int(self.sequence_offsets[-1]) + int(self.sequence_lengths[-1]) * self.dtype.itemsize if num_sequences else 0
        if end != bin_bytes:
            raise self.damaged(self.bin_path, f"{bin_bytes} bytes, its index promises {end}")

    def damaged(self, path: str, found: str) -> CorpusError:
        """Return the error for a file that is not what it should be."""
        return CorpusError(f"{path}: {found}; the file is cut, damaged or of another corpus: prepare it again or copy it again")
