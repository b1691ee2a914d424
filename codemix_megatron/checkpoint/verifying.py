"""Comparing a checkpoint with its metadata on all ranks together: each reads its share of the files, and none waits long for another."""

import hashlib
import heapq
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from codemix_megatron.checkpoint.loading import find_fault, named_like_checkpoints
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.parallel.ranks import Ranks, any_rank, gather, on_main, scatter_from_main
from codemix_megatron.records.run_folder import CHECKPOINT_METADATA

__all__ = ["find_fault_together", "newest_valid_together", "shares"]

CHUNK_BYTES = 16 << 20
SLICE_SECONDS = 5.0  # of reading between two looks at the other ranks; far below any timeout of a collective


def newest_valid_together(folder: Path, ranks: Ranks, on_slice: Callable[[], None]) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint without a fault, and a line for each newer one that has one. Every rank calls this."""
    complaints: list[str] = []
    for checkpoint in reversed(on_main(ranks, partial(named_like_checkpoints, folder))):
        fault = find_fault_together(checkpoint, ranks, on_slice)
        if fault is None:
            return checkpoint, complaints
        complaints.append(f"{checkpoint}: {fault}; it is not used")
    return None, complaints


def find_fault_together(checkpoint: Path, ranks: Ranks, on_slice: Callable[[], None]) -> str | None:
    """Compare every file with the metadata; return what is wrong, or None. Every rank calls this, and gets the same.

    `on_slice()` is called every few seconds of reading.
    """
    fault, own = scatter_from_main(ranks, partial(deal_files, checkpoint, ranks.size))
    if fault:
        return fault
    reading, is_done = read_all(checkpoint, own), False
    found: list[str] = []
    while any_rank(not is_done, ranks.device):
        on_slice()
        is_done = read_slice(reading, found)
    if not any_rank(bool(found), ranks.device):
        return None
    return next(text for texts in gather(ranks, found) for text in texts)


def deal_files(checkpoint: Path, num_ranks: int) -> list[tuple[str | None, dict[str, str]]]:
    """Return for each rank what is wrong with the metadata or the sizes of files, and the checksums of the files it is to read."""
    fault = find_fault(checkpoint, checksums=False)
    if fault:
        return [(fault, {})] * num_ranks
    files = read_metadata(checkpoint)["files"]
    dealt = shares({name: entry["bytes"] for name, entry in files.items()}, num_ranks)
    return [(None, {name: files[name]["sha256"] for name in names}) for names in dealt]


def shares(sizes: dict[str, int], num_ranks: int) -> list[list[str]]:
    """Deal files to ranks so that all of them read about as much."""
    dealt: list[list[str]] = [[] for _ in range(num_ranks)]
    loads = [(0, rank) for rank in range(num_ranks)]
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        load, rank = heapq.heappop(loads)
        dealt[rank].append(name)
        heapq.heappush(loads, (load + sizes[name], rank))
    return dealt


def read_all(checkpoint: Path, wanted: dict[str, str]) -> Iterator[str | None]:
    """Read files chunk by chunk; yield what is wrong with one, else None."""
    for name, sha256 in wanted.items():
        digest = hashlib.sha256()
        try:
            with open(checkpoint / name, "rb") as handle:
                while chunk := handle.read(CHUNK_BYTES):
                    digest.update(chunk)
                    yield None
        except OSError as fault:
            yield f"{name}: cannot be read ({(fault.strerror or str(fault)).lower()})"
            continue
        if digest.hexdigest() != sha256:
            yield f"{name} has another checksum than {CHECKPOINT_METADATA} says"


def read_slice(reading: Iterator[str | None], found: list[str]) -> bool:
    """Read for some seconds, adding what is wrong to `found`; return whether all is read."""
    until = time.monotonic() + SLICE_SECONDS
    for fault in reading:
        if fault:
            found.append(fault)
        if time.monotonic() > until:
            return False
    return True
