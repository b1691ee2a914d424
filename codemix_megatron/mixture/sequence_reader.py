"""Sequences of prepared corpora as rows of token ids."""

import os
import time
import weakref
from collections.abc import Callable
from typing import Protocol

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.mixture.loss_masks import Hiding
from codemix_megatron.mixture.remote import BlockCache, is_remote
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["Rewriter", "SequenceReader", "TokenFile", "num_windows"]

COLD_SECONDS_PER_ROW = 20e-6  # a row from the page cache takes 2 microseconds, one from a disk 70 or more


def num_windows(num_tokens: int, sequence_length: int) -> int:
    """Return how many windows of sequence_length + 1 tokens fit, each beginning at the last token of the one before."""
    return max(0, (num_tokens - 1) // sequence_length)


class Rewriter(Protocol):
    """Changes rows of tokens in place, as a function of where they come from."""

    def rewrite(self, rows: np.ndarray, source: np.ndarray, sequence: np.ndarray, epoch: np.ndarray, pieces: Callable) -> None:
        """Rewrite [rows, sequence_length + 1]; `pieces(source, sequence)` says which tokens of the file stand where."""


class TokenFile:
    """Slices of one .bin file through pread.

    Measured, 2,048 tokens of 2 bytes: warm, pread gives 490,000 slices per CPU-second where slices of a memmap
    give 365,000; cold, pread gives 9,000 per second, a memmap 8,500, and pread after announcing the whole batch
    with POSIX_FADV_WILLNEED 56,000. A file that got shorter is an error here and a killed process with a memmap.
    """

    def __init__(self, manifest: CorpusManifest):
        self.path, self.dtype = manifest.prefix + ".bin", np.dtype(manifest.dtype)
        self.cache = BlockCache(self.path, manifest.bin_sha256) if is_remote(manifest.prefix) else None
        if self.cache:
            self.cache.check_size(manifest.num_tokens * self.dtype.itemsize)
        self.descriptor = os.open(self.cache.path if self.cache else self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)  # unlike __del__ it has all it needs when the interpreter ends
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def announce(self, start: int, count: int) -> None:
        """Tell the kernel that `count` tokens from `start` will be read soon; fetch them first when they are remote."""
        size = self.dtype.itemsize
        if self.cache:
            self.cache.ensure(start * size, count * size)
        os.posix_fadvise(self.descriptor, start * size, count * size, os.POSIX_FADV_WILLNEED)

    def read_into(self, row: memoryview, start: int) -> None:
        """Fill `row` (bytes of this file's dtype) with the tokens from `start` on."""
        offset = start * self.dtype.itemsize
        done = os.preadv(self.descriptor, (row,), offset)
        while done < len(row):  # a signal may cut a read short; the end of the file gives 0
            more = os.preadv(self.descriptor, (row[done:],), offset + done)
            if more == 0:
                raise CorpusError(
                    f"{self.path}: ends before token {start + len(row) // self.dtype.itemsize}; it changed while in use, prepare it again"
                )
            done += more


class SequenceReader:
    """Reads windows of sequence_length + 1 tokens (inputs and labels overlap by one, as in Megatron).

    A `rewriter` changes the rows that are trained on; held-out ones are left as they are. Where a corpus has a loss mask, or nothing
    is learned across documents, rows are signed and hide what is not learned; see `loss_masks`.
    """

    def __init__(
        self,
        manifests: list[CorpusManifest],
        sequence_length: int,
        rewriter: Rewriter | None = None,
        *,
        learn_across_documents: bool = True,
    ):
        self.manifests, self.sequence_length, self.rewriter = manifests, sequence_length, rewriter
        self.hiding = Hiding(manifests, learn_across_documents)
        self.files = [TokenFile(m) for m in manifests]
        self.dtype = np.result_type(*(f.dtype for f in self.files)) if manifests else np.dtype(np.uint16)
        self.descriptors = [f.descriptor for f in self.files]
        self.has_remote = any(f.cache for f in self.files)
        self.is_cold = True

    def read(self, source: np.ndarray, sequence: np.ndarray, epoch: np.ndarray | None = None) -> np.ndarray:
        """Return [rows, sequence_length + 1] of the training part of each row's source, in the corpora's own dtype.

        `epoch` counts for a rewriter, which does something else with a sequence each time it comes.
        """
        source, sequence = np.asarray(source), np.asarray(sequence)
        rows = self.stored_rows(source, sequence)
        if self.rewriter is not None:
            self.rewriter.rewrite(rows, source, sequence, np.zeros_like(sequence) if epoch is None else epoch, self.pieces)
        if not self.hiding:
            return rows
        return self.hiding.applied(rows, source, lambda row: self.pieces(int(source[row]), int(sequence[row])))

    def stored_rows(self, source: np.ndarray, sequence: np.ndarray) -> np.ndarray:
        """Return the rows as the corpora have them."""
        return self.windows(source, sequence * self.sequence_length)

    def pieces(self, source: int, sequence: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (position in the row, token of the file) where each stretch of a sequence begins."""
        return np.zeros(1, np.int64), np.array([sequence * self.sequence_length])

    def held_out(self, source: int, limit: int, *, hides: bool = False) -> np.ndarray:
        """Return up to `limit` held-out windows of one source, spread evenly over its documents, [rows, sequence_length + 1].

        They are whole, unless what is not learned is to be hidden as in the rows trained on.
        """
        manifest = self.manifests[source]
        there = num_windows(manifest.held_out_tokens, self.sequence_length)
        rows = min(limit, there)
        starts = manifest.train_tokens + np.arange(rows) * there // max(1, rows) * self.sequence_length
        windows = self.windows(np.full(rows, source), starts)
        if not (hides and self.hiding):
            return windows
        return self.hiding.applied(windows, np.full(rows, source), lambda row: (np.zeros(1, np.int64), starts[row : row + 1]))

    def windows(self, source: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Copy one slice per row; after a batch that came from disk, the next one is announced before it is read."""
        width = self.sequence_length + 1
        rows = np.empty((len(starts), width), dtype=self.dtype)
        size, sources, starts = width * self.dtype.itemsize, source.tolist(), starts.tolist()
        if self.is_cold or self.has_remote:
            for s, start in zip(sources, starts, strict=True):
                self.files[s].announce(start, width)
        flat, descriptors, item, pread = rows.reshape(-1).view(np.uint8).data, self.descriptors, self.dtype.itemsize, os.preadv
        began, at = time.perf_counter(), 0
        for s, start in zip(sources, starts, strict=True):
            row = flat[at : at + size]
            if pread(descriptors[s], (row,), start * item) != size:
                self.files[s].read_into(row, start)
            at += size
        self.is_cold = time.perf_counter() - began > COLD_SECONDS_PER_ROW * len(starts)
        return rows
