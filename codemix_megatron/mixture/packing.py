"""Best-fit packing: whole documents side by side, none cut that fits into a sequence.

Documents longer than a sequence are cut into windows first (overlapping by one token, so that every token is
predicted); these pieces are packed best-fit decreasing (Ding et al. 2024, "Fewer Truncations Improve Language
Modeling"). Pieces of one length are placed together, so the time goes with the number of different lengths
(Krell et al. 2021), and the table takes 20 bytes per piece. The price beside concatenation: that table, a few
positions left empty in each sequence (`fill` says how many are not), and one read per piece instead of per sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.mixture.loss_masks import PADDING
from codemix_megatron.mixture.sequence_reader import Rewriter, SequenceReader
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["PackedReader", "Packing", "best_fit", "cut_pieces", "pack", "pack_documents"]


@dataclass(frozen=True)
class Packing:
    """Sequence i holds the pieces order[first[i]:first[i + 1]]; pieces are (start, length) in tokens of the file."""

    first: np.ndarray
    start: np.ndarray
    length: np.ndarray
    capacity: int

    @property
    def num_sequences(self) -> int:
        """Sequences of one epoch."""
        return len(self.first) - 1

    @property
    def fill(self) -> float:
        """Share of positions that hold a token."""
        return float(self.length.sum() / max(1, self.num_sequences * self.capacity))


def pack(manifest: CorpusManifest, sequence_length: int) -> Packing:
    """Pack the training documents of a corpus into sequences of sequence_length + 1 positions."""
    lengths = np.asarray(IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents], dtype=np.int64)
    return pack_documents(lengths, np.ones(len(lengths), dtype=bool), sequence_length)


def pack_documents(lengths: np.ndarray, chosen: np.ndarray, sequence_length: int) -> Packing:
    """Pack the chosen ones of documents of these lengths."""
    start, length = cut_pieces(lengths, sequence_length, chosen)
    bins = best_fit(length, sequence_length + 1)
    order = np.lexsort((np.arange(len(bins)), bins))
    num_bins = int(bins.max()) + 1 if len(bins) else 0
    first = np.searchsorted(bins[order], np.arange(num_bins + 1))
    return Packing(first, start[order], length[order].astype(np.int32), sequence_length + 1)


def cut_pieces(lengths: np.ndarray, sequence_length: int, chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return (start, length) of every piece of the chosen documents; a lone end token predicts nothing and makes no piece."""
    begin = np.cumsum(lengths) - lengths
    if chosen is not None:
        begin, lengths = begin[chosen], lengths[chosen]
    pieces = np.maximum(1, -(-(lengths - 1) // sequence_length))
    document = np.repeat(np.arange(len(lengths)), pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = begin[document] + number * sequence_length
    length = np.minimum(sequence_length + 1, lengths[document] - number * sequence_length)
    return start[length > 1], length[length > 1]


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Return the bin of each piece, best-fit decreasing: the longest first, each into the fullest bin it fits."""
    bins = np.empty(len(lengths), dtype=np.int64)
    by_length = np.argsort(-lengths, kind="stable")
    values, counts = np.unique(lengths, return_counts=True)
    room: dict[int, list[np.ndarray]] = {}  # positions left -> bins with so many
    opened = placed = 0
    for length, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        pieces = by_length[placed : placed + count]
        placed += count
        pieces = fill_open_bins(pieces, length, room, bins)
        if len(pieces):
            per_bin = capacity // length
            bins[pieces] = opened + np.arange(len(pieces)) // per_bin
            used = np.bincount(bins[pieces] - opened) * length
            for left in np.unique(capacity - used).tolist():
                room.setdefault(left, []).append(opened + np.flatnonzero(capacity - used == left))
            opened += len(used)
    return bins


def fill_open_bins(pieces: np.ndarray, length: int, room: dict[int, list[np.ndarray]], bins: np.ndarray) -> np.ndarray:
    """Place pieces of one length into bins that are open, fullest first; return those that fit nowhere."""
    for left in sorted(space for space in room if space >= length):
        while len(pieces) and room.get(left):
            group = room[left].pop()
            per_bin = left // length
            taking = min(len(group), -(-len(pieces) // per_bin))
            inside = pieces[: taking * per_bin]
            bins[inside] = group[np.arange(len(inside)) // per_bin]
            used = np.bincount(np.arange(len(inside)) // per_bin) * length
            for rest in np.unique(left - used).tolist():
                room.setdefault(rest, []).append(group[:taking][left - used == rest])
            if taking < len(group):
                room[left].append(group[taking:])
            pieces = pieces[len(inside) :]
        if not room.get(left):
            room.pop(left, None)
        if not len(pieces):
            break
    return pieces


class PackedReader(SequenceReader):
    """Reads sequences that are put together of pieces, by a table for each source; padding positions hold PADDING.

    A source whose table is None has windows.
    """

    def __init__(
        self,
        manifests: list[CorpusManifest],
        sequence_length: int,
        rewriter: Rewriter | None = None,
        *,
        learn_across_documents: bool = True,
        packings: Sequence[Packing | None] | None = None,
    ):
        super().__init__(manifests, sequence_length, rewriter, learn_across_documents=learn_across_documents)
        self.packings: list[Packing | None] = (
            [pack(manifest, sequence_length) for manifest in manifests] if packings is None else list(packings)
        )

    def pieces(self, source: int, sequence: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (position in the row, token of the file) where each piece of a sequence begins."""
        packing = self.packings[source]
        if packing is None:
            return super().pieces(source, sequence)
        inside = slice(packing.first[sequence], packing.first[sequence + 1])
        return np.cumsum(packing.length[inside]) - packing.length[inside], packing.start[inside]

    def stored_rows(self, source: np.ndarray, sequence: np.ndarray) -> np.ndarray:
        """Return int32 [rows, sequence_length + 1]."""
        rows = np.full((len(source), self.sequence_length + 1), PADDING, dtype=np.int32)
        has_windows = np.array([packing is None for packing in self.packings])[source]
        if has_windows.any():
            rows[has_windows] = super().stored_rows(source[has_windows], sequence[has_windows])
        for row in np.flatnonzero(~has_windows).tolist():
            self.fill(rows[row], int(source[row]), int(sequence[row]))
        return rows

    def fill(self, row: np.ndarray, source: int, sequence: int) -> None:
        """Read the pieces of one sequence into its row."""
        packing, file, at = self.packings[source], self.files[source], 0
        assert packing is not None
        first, last = packing.first[sequence : sequence + 2].tolist()
        for start, length in zip(packing.start[first:last].tolist(), packing.length[first:last].tolist(), strict=True):
            tokens = np.empty(length, dtype=file.dtype)
            file.read_into(tokens.data.cast("B"), start)
            row[at : at + length] = tokens
            at += length
