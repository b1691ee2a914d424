"""position in the run -> (phase, source, epoch, sequence), as pure arithmetic.

A run's data order has one integer of state: how many sequences were seen. Draws of a source run on
across phases, so nothing is read again before everything was read once.
"""

from dataclasses import dataclass

import numpy as np

from codemix_megatron.mixture.interleave import MOST_SEQUENCES, Interleaving
from codemix_megatron.mixture.permutation import epoch_keys, half_bits, permute, source_key
from codemix_megatron.mixture.reseeding import Reseeding

__all__ = ["DATA_ORDER", "Located", "Mixture"]

# The version of everything that decides which tokens stand at a position: shares to counts, interleaving, permutation, packing,
# fill-in-the-middle. Plans and checkpoints hold it. Whoever changes what comes at a position counts it up: runs that began under
# another one are refused, where they would read data twice or skip some. tests/unit/mixture/test_golden_positions.py notices.
DATA_ORDER = 1


@dataclass(frozen=True)
class Located:
    """Where positions of a run lead; every field is an int64 array [positions]."""

    phase: np.ndarray
    source: np.ndarray
    epoch: np.ndarray
    sequence: np.ndarray


class Mixture:
    """The whole data order of a run."""

    def __init__(
        self,
        seed: int,
        sources: list[str],
        sequences_per_epoch: list[int],
        phase_counts: list[list[int]],
        first: int = 0,
        drawn=None,
        stored: list[int] | None = None,
        data_seeds=None,
        reseeded=(),
        phase_of_row: list[int] | None = None,
    ):
        """Take counts (a row per phase, a column per source) of sequences, and how many sequences one epoch of a source has.

        A phase whose shares move has several rows, one for each stretch; `phase_of_row` says which phase each belongs to.
        A run that goes on from another begins at position `first`, with `drawn` sequences of each source read before. With `stored`, a
        source's file holds that many sequences, of which an epoch has some, spread evenly over all of it. `data_seeds` holds a
        seed or None for each phase, `reseeded` (seed, sequences drawn of each source) of the phases before `first` that had one.
        Raises ValueError when positions would be no longer exact.
        """
        end = first + sum(int(count) for row in phase_counts for count in row)
        if end > MOST_SEQUENCES:
            raise ValueError(f"{end} sequences; positions are exact up to {MOST_SEQUENCES}")
        self.sources = list(sources)
        self.sequences_per_epoch = np.asarray(sequences_per_epoch, dtype=np.int64)
        self.stored = self.sequences_per_epoch if stored is None else np.asarray(stored, dtype=np.int64)
        self.keys = np.array([source_key(seed, name) for name in self.sources], dtype=np.uint64)
        self.halves = half_bits(self.sequences_per_epoch)
        counts = np.asarray(phase_counts, dtype=np.int64)
        self.rows = [Interleaving(row) for row in counts]
        self.phase_of_row = np.arange(len(counts)) if phase_of_row is None else np.asarray(phase_of_row, dtype=np.int64)
        drawn = np.zeros(len(self.sources), np.int64) if drawn is None else np.asarray(drawn, dtype=np.int64)
        self.row_starts = first + np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
        self.draws_before = drawn + np.concatenate([np.zeros((1, len(self.sources)), np.int64), np.cumsum(counts, axis=0)])
        self.first_rows = np.searchsorted(self.phase_of_row, np.arange(self.num_phases))  # of each phase
        own = [(seed, at) for seed, at in zip(data_seeds or (), self.draws_before_phases, strict=False) if seed is not None]
        self.reseedings = [
            Reseeding.at(seed, self.sources, self.sequences_per_epoch, np.asarray(at, dtype=np.int64)) for seed, at in [*reseeded, *own]
        ]

    @property
    def num_phases(self) -> int:
        """Phases of the run."""
        return int(self.phase_of_row.max()) + 1

    @property
    def phase_starts(self) -> np.ndarray:
        """The position at which each phase begins."""
        return self.row_starts[self.first_rows]

    @property
    def draws_before_phases(self) -> np.ndarray:
        """Sequences of each source read before each phase, [phases, sources]."""
        return self.draws_before[self.first_rows]

    @property
    def first(self) -> int:
        """The position this run begins at."""
        return int(self.row_starts[0])

    def __len__(self) -> int:
        return int(self.row_starts[-1])

    def locate(self, positions) -> Located:
        """Locate positions in [first, len(self)); any order, any number."""
        positions = np.asarray(positions, dtype=np.int64)
        if len(positions) and not (self.first <= positions.min() and positions.max() < len(self)):
            raise IndexError(f"positions {positions.min()} to {positions.max()} are outside the run's {len(self)} sequences")
        row = np.searchsorted(self.row_starts, positions, side="right") - 1
        source, draw = np.empty_like(positions), np.empty_like(positions)
        for i in np.unique(row):
            here = row == i
            source[here], index = self.rows[i].locate(positions[here] - self.row_starts[i])
            draw[here] = self.draws_before[i][source[here]] + index
        epoch = draw // self.sequences_per_epoch[source]
        return Located(self.phase_of_row[row], source, epoch, self.shuffled(source, epoch, draw % self.sequences_per_epoch[source]))

    def shuffled(self, source: np.ndarray, epoch: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Return the sequence at each place of its source's epoch order."""
        keys = epoch_keys(self.keys[source], epoch)
        for reseeding in self.reseedings:
            keys = reseeding.change_keys(source, epoch, keys)
        for reseeding in reversed(self.reseedings):  # a later one changes among places that an earlier one has changed
            place = reseeding.change_places(source, epoch, place)
        found = permute(place, self.sequences_per_epoch[source], self.halves[source], keys)
        if self.stored is self.sequences_per_epoch:
            return found
        times, rest = np.divmod(self.stored[source], self.sequences_per_epoch[source])  # no product past 63 bits
        return found * times + found * rest // self.sequences_per_epoch[source]

    def consumed(self, sequences_seen: int) -> np.ndarray:
        """Return the sequences of each source among the first `sequences_seen` positions, without walking them.

        Those read before `first` count too.
        """
        totals = self.draws_before[0].copy()
        for start, row in zip(self.row_starts, self.rows, strict=False):
            inside = int(np.clip(sequences_seen - start, 0, row.total))
            totals += row.counts if inside == row.total else prefix_counts(row, inside)
        return totals


def prefix_counts(phase: Interleaving, length: int) -> np.ndarray:
    """Return each source's sequences among the first `length` positions of a phase."""
    totals, stack = np.zeros(len(phase.counts), dtype=np.int64), [(0, length)]
    while stack:
        node, inside = stack.pop()
        if phase.leaf[node] >= 0:
            totals[phase.leaf[node]] += inside
        else:
            total = int(phase.node_total[node])
            left = (inside * int(phase.left_count[node]) + total // 2) // total
            stack += [(int(phase.left[node]), left), (int(phase.right[node]), inside - left)]
    return totals
