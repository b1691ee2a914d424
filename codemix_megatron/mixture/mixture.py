"""position in the run -> (phase, source, epoch, sequence), as pure arithmetic.

A run's data order has one integer of state: how many sequences were seen. Draws of a source run on
across phases, so nothing is read again before everything was read once.
"""

from dataclasses import dataclass

import numpy as np

from codemix_megatron.mixture.buckets import Round
from codemix_megatron.mixture.interleave import MOST_SEQUENCES, Interleaving, prefix_counts
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


class Streams:
    """What is shuffled by itself: a source, or each bucket of one that has buckets. A source's own number is that of its stream.

    Buckets come after all sources, so that sources without some are what they are without any.
    """

    def __init__(self, sources, sequences_per_epoch, stored, rounds: dict[int, Round]):
        self.rounds, self.first = rounds, {}
        names, sequences, offsets = list(sources), list(map(int, sequences_per_epoch)), [0] * len(sources)
        inside = sequences if stored is None else list(map(int, stored))
        for source, of_source in sorted(rounds.items()):
            self.first[source] = len(names)
            names += [f"{sources[source]}, bucket {bucket}" for bucket in range(len(of_source.counts))]
            inside = [*inside, *map(int, of_source.stored)]
            sequences = [*sequences, *map(int, of_source.sequences)]
            offsets += (np.cumsum(of_source.stored) - of_source.stored).tolist()
        self.names, self.offsets = names, np.asarray(offsets, dtype=np.int64)
        self.sequences = np.maximum(1, np.asarray(sequences, dtype=np.int64))  # an empty bucket is never drawn
        self.stored = self.sequences if inside == sequences else np.maximum(1, np.asarray(inside, dtype=np.int64))

    def locate(self, source: np.ndarray, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the stream of each draw of a source, and which draw of that stream it is."""
        if not self.rounds:
            return source, draw
        stream, draw = source.copy(), draw.copy()
        for number, of_source in self.rounds.items():
            here = source == number
            bucket, draw[here] = of_source.locate(draw[here])
            stream[here] = self.first[number] + bucket
        return stream, draw

    def drawn(self, of_sources: np.ndarray) -> np.ndarray:
        """Return how much of each stream was drawn, where so much of each source was."""
        if not self.rounds:
            return of_sources
        return np.concatenate([of_sources, *(of_source.drawn(of_sources[number]) for number, of_source in sorted(self.rounds.items()))])


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
        rounds: dict[int, Round] | None = None,
    ):
        """Take counts (a row per phase, a column per source) of sequences, and how many sequences one epoch of a source has.

        A phase whose shares move has several rows, one for each stretch; `phase_of_row` says which phase each belongs to.
        A run that goes on from another begins at position `first`, with `drawn` sequences of each source read before. With `stored`, a
        source's file holds that many sequences, of which an epoch has some, spread evenly over all of it. `data_seeds` holds a
        seed or None for each phase, `reseeded` (seed, sequences drawn of each source) of the phases before `first` that had one.
        `rounds` holds the buckets of sources that have some: their sequences follow each other in the source's numbers.
        Raises ValueError when positions would be no longer exact.
        """
        end = first + sum(int(count) for row in phase_counts for count in row)
        if end > MOST_SEQUENCES:
            raise ValueError(f"{end} sequences; positions are exact up to {MOST_SEQUENCES}")
        self.sources, self.streams = list(sources), Streams(sources, sequences_per_epoch, stored, rounds or {})
        self.keys = np.array([source_key(seed, name) for name in self.streams.names], dtype=np.uint64)
        self.halves = half_bits(self.streams.sequences)
        counts = np.asarray(phase_counts, dtype=np.int64)
        self.rows = [Interleaving(row) for row in counts]
        self.phase_of_row = np.arange(len(counts)) if phase_of_row is None else np.asarray(phase_of_row, dtype=np.int64)
        drawn = np.zeros(len(self.sources), np.int64) if drawn is None else np.asarray(drawn, dtype=np.int64)
        self.row_starts = first + np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
        self.draws_before = drawn + np.concatenate([np.zeros((1, len(self.sources)), np.int64), np.cumsum(counts, axis=0)])
        self.first_rows = np.searchsorted(self.phase_of_row, np.arange(self.num_phases))  # of each phase
        own = [(seed, at) for seed, at in zip(data_seeds or (), self.draws_before_phases, strict=False) if seed is not None]
        self.reseedings = [
            Reseeding.at(seed, self.streams.names, self.streams.sequences, self.streams.drawn(np.asarray(at, dtype=np.int64)))
            for seed, at in [*reseeded, *own]
        ]

    @property
    def sequences_per_epoch(self) -> np.ndarray:
        """Sequences one epoch of each source has."""
        return self.streams.sequences[: len(self.sources)]

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
        stream, draw = self.streams.locate(source, draw)
        epoch, epoch_position = np.divmod(draw, self.streams.sequences[stream])
        sequence = self.streams.offsets[stream] + self.shuffled(stream, epoch, epoch_position)
        return Located(self.phase_of_row[row], source, epoch, sequence)

    def shuffled(self, stream: np.ndarray, epoch: np.ndarray, epoch_position: np.ndarray) -> np.ndarray:
        """Return the sequence at each position of its stream's epoch order."""
        keys = epoch_keys(self.keys[stream], epoch)
        for reseeding in self.reseedings:
            keys = reseeding.change_keys(stream, epoch, keys)
        for reseeding in reversed(self.reseedings):  # a later one changes among positions that an earlier one has changed
            epoch_position = reseeding.change_positions(stream, epoch, epoch_position)
        sequences, stored = self.streams.sequences, self.streams.stored
        found = permute(epoch_position, sequences[stream], self.halves[stream], keys)
        if stored is sequences:
            return found
        times, rest = np.divmod(stored[stream], sequences[stream])  # no product past 63 bits
        return found * times + found * rest // sequences[stream]

    def consumed(self, sequences_seen: int) -> np.ndarray:
        """Return the sequences of each source among the first `sequences_seen` positions, without walking them.

        Those read before `first` count too.
        """
        totals = self.draws_before[0].copy()
        for start, row in zip(self.row_starts, self.rows, strict=False):
            inside = int(np.clip(sequences_seen - start, 0, row.total))
            totals += row.counts if inside == row.total else prefix_counts(row, inside)
        return totals

    def bucket_sequences(self, of_sources: np.ndarray) -> dict[str, np.ndarray]:
        """Return source -> sequences of each of its buckets, where so many of each source were drawn; of sources with buckets."""
        return {self.sources[number]: of_source.drawn(of_sources[number]) for number, of_source in self.streams.rounds.items()}

    def buckets_of(self, located: Located) -> dict[str, np.ndarray]:
        """Return source -> how many of some sequences are of each of its buckets; of sources with buckets."""
        counts = {}
        for number, of_source in self.streams.rounds.items():
            ends = np.cumsum(of_source.stored)
            bucket = np.searchsorted(ends, located.sequence[located.source == number], side="right")
            counts[self.sources[number]] = np.bincount(bucket, minlength=len(ends))
        return counts
