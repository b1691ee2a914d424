"""Documents in a seeded random order, written in memory that does not depend on their number.

The order is that of a hash of (seed, text): the same for the same documents, however the work was divided.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.indexed import IndexedWriter

__all__ = ["shuffle_keys", "write_shuffled"]

BUCKET_BYTES = 128 << 20  # of tokens, sorted at once
MOST_BUCKETS = 256  # two open files each; from 32 GB of tokens on, buckets are larger
GATHERED_DOCUMENTS = 1 << 14
ENTRY = np.dtype([("key", "<u8"), ("row", "<i8"), ("num_tokens", "<u4")])


def shuffle_keys(digests: np.ndarray, seed: int) -> np.ndarray:
    """Return what each text (V16 digests) is sorted by in the order of `seed`, numbers of 64 bits."""
    words = np.ascontiguousarray(digests).view("<u8").astype(np.uint64)
    return mixed(words[::2] ^ mixed(words[1::2] ^ mixed(np.array([seed % (1 << 64)], dtype=np.uint64))))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return SplitMix64's finalizer of each number (Steele, Lea, Flood 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def write_shuffled(writer: IndexedWriter, pieces: Iterable, seed: int, folder, num_bytes: int) -> Iterator[np.ndarray]:
    """Append the chosen documents of all pieces in the order of `seed`; yield the rows of documents in that order.

    A piece is (records, first row, tokens, chosen) of one part; `num_bytes` is the size of all tokens. Documents
    are first spread over files by the leading bits of their keys, then each file is put in order.
    """
    num_buckets = min(MOST_BUCKETS, 1 << (num_bytes // BUCKET_BYTES).bit_length())
    paths = [folder.path / f"bucket-{bucket:03}" for bucket in range(num_buckets)]
    try:
        spread(pieces, seed, paths)
        for path in paths:
            entries = np.fromfile(path.with_suffix(".entries"), dtype=ENTRY)
            order = np.argsort(entries["key"], kind="stable")
            writer.extend(gathered(np.fromfile(path, dtype=folder.dtype), entries["num_tokens"], order), entries["num_tokens"][order])
            path.unlink()
            yield entries["row"][order]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
            path.with_suffix(".entries").unlink(missing_ok=True)


def spread(pieces: Iterable, seed: int, paths: list[Path]) -> None:
    """Append each chosen document to the file that the leading bits of its key name."""
    bits = (len(paths) - 1).bit_length()
    with ExitStack() as stack:
        tokens_files = [stack.enter_context(open(path, "wb", buffering=1 << 18)) for path in paths]
        entry_files = [stack.enter_context(open(path.with_suffix(".entries"), "wb", buffering=1 << 14)) for path in paths]
        for records, first, tokens, chosen in pieces:
            ends = np.cumsum(records["num_tokens"], dtype=np.int64)
            keys = shuffle_keys(records["digest"], seed)
            bucket = (keys >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(keys), dtype=np.int64)
            entries = np.empty(len(records), dtype=ENTRY)
            entries["key"], entries["num_tokens"] = keys, records["num_tokens"]
            entries["row"] = np.arange(first, first + len(records))
            for number in np.unique(bucket[chosen]).tolist():
                rows = np.flatnonzero(chosen & (bucket == number))
                entry_files[number].write(entries[rows])
                for begin, end in zip((ends[rows] - records["num_tokens"][rows]).tolist(), ends[rows].tolist(), strict=True):
                    tokens_files[number].write(tokens[begin:end])


def gathered(tokens: np.ndarray, lengths: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the documents of a bucket in a new order, many in each buffer."""
    ends = np.cumsum(lengths, dtype=np.int64)
    for first in range(0, len(order), GATHERED_DOCUMENTS):
        rows = order[first : first + GATHERED_DOCUMENTS]
        yield np.concatenate([tokens[ends[row] - lengths[row] : ends[row]] for row in rows.tolist()])
