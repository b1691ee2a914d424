"""Which documents repeat an earlier one, found in bounded memory whatever their number."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

__all__ = ["find_duplicates"]

SORTED_AT_ONCE = 1 << 21  # digests: about 100 MB while they are sorted
MOST_BUCKETS = 512  # open files; above a billion documents the buckets grow
INDEXED_DIGEST = np.dtype([("digest", "V16"), ("index", "<u8")])


def find_duplicates(blocks: Iterable[np.ndarray], total: int, scratch: Path) -> np.ndarray:
    """Return for each of `total` digests (blocks of V16) whether an equal one came before.

    More digests than can be sorted at once are first spread over files in `scratch` by their leading bits.
    """
    duplicate = np.zeros(total, dtype=bool)
    if total <= SORTED_AT_ONCE:
        mark_repeated(np.concatenate([np.empty(0, "V16"), *blocks]), np.arange(total), duplicate)
        return duplicate
    num_buckets = min(MOST_BUCKETS, 1 << (total // SORTED_AT_ONCE).bit_length())
    paths = [scratch / f"digests-{bucket:03}" for bucket in range(num_buckets)]
    try:
        spread(blocks, paths)
        for path in paths:
            indexed = np.fromfile(path, dtype=INDEXED_DIGEST)
            mark_repeated(indexed["digest"], indexed["index"], duplicate)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    return duplicate


def spread(blocks: Iterable[np.ndarray], paths: list[Path]) -> None:
    """Write each digest and its index to the file that its leading bits name."""
    first = 0
    with ExitStack() as stack:
        handles = [stack.enter_context(open(path, "wb", buffering=1 << 16)) for path in paths]
        for digests in blocks:
            indexed = np.empty(len(digests), dtype=INDEXED_DIGEST)
            indexed["digest"], indexed["index"] = digests, np.arange(first, first + len(digests))
            first += len(digests)
            bucket = words(digests)[::2] >> np.uint64(64 - (len(paths) - 1).bit_length())
            order = np.argsort(bucket, kind="stable")
            bounds = np.searchsorted(bucket[order], np.arange(len(paths) + 1, dtype=np.uint64))
            for handle, begin, end in zip(handles, bounds, bounds[1:], strict=False):
                handle.write(indexed[order[begin:end]].tobytes())


def mark_repeated(digests: np.ndarray, indices: np.ndarray, duplicate: np.ndarray) -> None:
    """Set `duplicate` at the indices of all but the first of equal digests."""
    both = words(digests)
    high, low = both[::2], both[1::2]
    order = np.lexsort((low, high))  # stable: equal digests keep their order
    repeated = (high[order][1:] == high[order][:-1]) & (low[order][1:] == low[order][:-1])
    duplicate[indices[order[1:][repeated]]] = True


def words(digests: np.ndarray) -> np.ndarray:
    """Return digests as numbers of 64 bits, two of each."""
    return np.ascontiguousarray(digests).view(">u8").astype(np.uint64)
