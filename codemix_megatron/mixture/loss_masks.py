"""Which tokens are learned: PREFIX.loss_mask.bin beside a corpus, and rows in which the others are hidden.

The file holds a bit for each token of PREFIX.bin, token i in bit i % 8 of byte i // 8; 1 says that a model learns to write it. In a
row of ids a token that is not learned stands as HIDDEN - id, below every id and below the -1 of a padding position: it is read,
and not predicted. So a row says all there is to say, whatever it passes through.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.mixture.remote import BlockCache, is_remote
from codemix_megatron.records.manifest import CorpusManifest, loss_mask_path

__all__ = ["HIDDEN", "PADDING", "Hiding", "LossMask", "hide", "revealed"]

PADDING = -1
HIDDEN = -2


def hide(row: np.ndarray, where: np.ndarray) -> None:
    """Hide the tokens of a row of signed ids at positions where the mask is true; hidden and empty ones stay as they are."""
    where = where & (row >= 0)
    row[where] = HIDDEN - row[where]


def revealed(values):
    """Return the ids of rows, hidden ones among them, of numpy's arrays or torch's tensors; PADDING stays."""
    return values + (values <= HIDDEN) * (HIDDEN - 2 * values)


class LossMask:
    """The bits of one corpus."""

    def __init__(self, manifest: CorpusManifest):
        self.path = loss_mask_path(manifest.prefix)
        self.cache = BlockCache(self.path, manifest.loss_mask_sha256) if is_remote(manifest.prefix) else None
        if self.cache:
            self.cache.check_size(-(-manifest.num_tokens // 8))
        try:
            self.descriptor = os.open(self.cache.path if self.cache else self.path, os.O_RDONLY)
        except OSError as fault:
            raise CorpusError(f"{self.path}: cannot be read ({fault.strerror}); prepare the corpus again or copy the file again") from None

    def is_learned(self, start: int, count: int) -> np.ndarray:
        """Return of `count` tokens from `start` on whether they are learned, bool."""
        begin, end = start // 8, -(-(start + count) // 8)
        if self.cache:
            self.cache.ensure(begin, end - begin)
        data = os.pread(self.descriptor, end - begin, begin)
        if len(data) != end - begin:
            raise CorpusError(f"{self.path}: ends before token {start + count}; it changed while in use, prepare the corpus again")
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
        return bits[start % 8 : start % 8 + count].astype(bool)

    def __del__(self):
        if hasattr(self, "descriptor"):  # opening may have failed
            os.close(self.descriptor)


class Hiding:
    """Hides in rows what corpora's masks say is not learned and, unless it is learned across documents, what begins a document."""

    def __init__(self, manifests: Sequence[CorpusManifest], learn_across_documents: bool):
        self.masks = [LossMask(manifest) if manifest.loss_mask_sha256 else None for manifest in manifests]
        self.ends = [manifest.tokenizer.end_of_document_id for manifest in manifests]
        self.learn_across_documents = learn_across_documents

    def __bool__(self) -> bool:
        return not self.learn_across_documents or any(mask is not None for mask in self.masks)

    def applied(self, rows: np.ndarray, source: np.ndarray, pieces: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Return signed rows with tokens hidden; `pieces(row)` says which tokens of the file stand where in a row."""
        rows = rows.astype(np.int32)
        for number, s in enumerate(source.tolist()):
            row, mask = rows[number], self.masks[s]
            begins, tokens = pieces(number)
            unlearned = np.zeros(len(row), dtype=bool)
            if not self.learn_across_documents:  # Megatron-LM's --eod-mask-loss: nothing is predicted from the end of a document
                unlearned[1:] = row[:-1] == self.ends[s]
                unlearned[begins] = True
            if mask is not None:
                ends = np.append(begins[1:], np.count_nonzero(row != PADDING))
                for begin, end, token in zip(begins.tolist(), ends.tolist(), tokens.tolist(), strict=True):
                    unlearned[begin:end] |= ~mask.is_learned(token, end - begin)
            hide(row, unlearned)
        return rows
