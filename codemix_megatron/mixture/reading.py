"""Sequences of prepared corpora as rows of token ids."""

import numpy as np

from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["SequenceReader", "num_windows"]


def num_windows(num_tokens: int, sequence_length: int) -> int:
    """Return how many windows of sequence_length + 1 tokens fit, each beginning at the last token of the one before."""
    return max(0, (num_tokens - 1) // sequence_length)


class SequenceReader:
    """Reads windows of sequence_length + 1 tokens (inputs and labels overlap by one, as in Megatron)."""

    def __init__(self, manifests: list[CorpusManifest], sequence_length: int):
        self.manifests, self.sequence_length = manifests, sequence_length
        self.tokens = [np.memmap(m.prefix + ".bin", dtype=m.dtype, mode="r") for m in manifests]

    def read(self, source: np.ndarray, sequence: np.ndarray) -> np.ndarray:
        """Return int64 [rows, sequence_length + 1] of the training part of each row's source."""
        return self.windows(source, np.asarray(sequence) * self.sequence_length)

    def held_out(self, source: int, limit: int) -> np.ndarray:
        """Return up to `limit` held-out windows of one source, int64 [rows, sequence_length + 1]."""
        manifest = self.manifests[source]
        rows = min(limit, num_windows(manifest.held_out_tokens, self.sequence_length))
        starts = manifest.train_tokens + np.arange(rows) * self.sequence_length
        return self.windows(np.full(rows, source), starts)

    def windows(self, source: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Copy one slice per row."""
        rows = np.empty((len(starts), self.sequence_length + 1), dtype=np.int64)
        for i, (s, start) in enumerate(zip(source, starts, strict=True)):
            rows[i] = self.tokens[s][start : start + self.sequence_length + 1]
        return rows
