"""What was really consumed: tokens per phase, source and language, recounted from positions and documents.

Training counts sources only; languages are recounted here from the data order itself, which costs training nothing.

A run's tokens are the positions of its sequences at which something may be predicted, sequence_length in each: that is what plan,
journal and trackers count. In a window each of them holds a token. A packed sequence may leave some empty; they are listed as `EMPTY`,
so that the languages of a source add up to what the journal says of it, whatever the packing.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import Packing
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["EMPTY", "DocumentLanguages", "audit", "count_buckets", "count_learned", "read_ranges"]

BATCH_POSITIONS = 1 << 16
READ_TOKENS = 1 << 22
ALL = "all"  # the one language of a corpus whose documents say none
EMPTY = "(empty)"  # padding positions of packed sequences


class DocumentLanguages:
    """Counts tokens of one corpus by language, for any ranges of its training part."""

    def __init__(self, manifest: CorpusManifest):
        lengths = np.asarray(IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents], dtype=np.int64)
        self.ends = np.cumsum(lengths)
        path = Path(f"{manifest.prefix}.languages.npy")
        is_known = bool(manifest.languages) and path.is_file()
        self.names = list(manifest.languages) if is_known else [ALL]
        language = np.load(path) if is_known else np.zeros(len(lengths), dtype=np.uint16)
        # before[l, d]: tokens of language l in the documents before d
        is_language = language[None, :] == np.arange(len(self.names))[:, None]
        self.before = np.concatenate([np.zeros((len(self.names), 1), np.int64), np.cumsum(is_language * lengths, axis=1)], axis=1)
        self.language, self.starts = language.astype(np.int64), self.ends - lengths

    def up_to(self, tokens: np.ndarray) -> np.ndarray:
        """Return how many of the first `tokens` tokens are of each language, [languages, positions]."""
        document = np.minimum(np.searchsorted(self.ends, tokens, side="right"), len(self.ends) - 1)
        counts = self.before[:, document].copy()
        counts[self.language[document], np.arange(len(tokens))] += tokens - self.starts[document]
        return counts

    def count(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the tokens of each language in the ranges together, [languages]."""
        return (self.up_to(starts + lengths) - self.up_to(starts)).sum(axis=1)


def trained_positions(first: int, end: int, skipped=(), at_a_time: int = BATCH_POSITIONS) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (position up to which all are done with these, positions) of [first, end), without the (first, end) ranges of `skipped`."""
    for begin in range(first, end, at_a_time):
        done = min(begin + at_a_time, end)
        positions = np.arange(begin, done)
        for low, high in skipped:
            positions = positions[(positions < low) | (positions >= high)]
        yield done, positions


def audit(
    mixture: Mixture,
    manifests: list[CorpusManifest],
    sequence_length: int,
    sequences_seen: int,
    packings: list[Packing | None] | None = None,
    skipped=(),
    progress=lambda done, total: None,
) -> list[list[dict[str, int]]]:
    """Return tokens by language, a row per phase and an entry per source, of a run's positions before `sequences_seen`.

    `skipped` holds (first, end) ranges of positions that were not trained on and do not count.
    Counted are tokens after which one is predicted: all of a sequence but its last. They and `EMPTY` make up
    sequence_length for each sequence.
    """
    languages = [DocumentLanguages(manifest) for manifest in manifests]
    totals = [[np.zeros(len(known.names) + 1, dtype=np.int64) for known in languages] for _ in range(mixture.num_phases)]
    for done, positions in trained_positions(mixture.first, sequences_seen, skipped):
        located = mixture.locate(positions)
        for phase in np.unique(located.phase):
            for source in np.unique(located.source[located.phase == phase]):
                drawn = located.sequence[(located.phase == phase) & (located.source == source)]
                starts, lengths = predicting_ranges(drawn, sequence_length, packings[source] if packings else None)
                totals[phase][source][:-1] += languages[source].count(starts, lengths)
                totals[phase][source][-1] += len(drawn) * sequence_length - lengths.sum()
        progress(done, sequences_seen)
    return [[named_counts(known.names, counts) for known, counts in zip(languages, row, strict=True)] for row in totals]


def count_buckets(mixture: Mixture, sequences_seen: int, skipped=()) -> dict[str, np.ndarray]:
    """Return source -> sequences read of each of its buckets, of sources with buckets, walking all positions."""
    totals: dict[str, np.ndarray] = {}
    for _, positions in trained_positions(mixture.first, sequences_seen, skipped) if mixture.streams.rounds else ():
        for name, counts in mixture.buckets_of(mixture.locate(positions)).items():
            totals[name] = totals.get(name, np.zeros_like(counts)) + counts
    return totals


def count_learned(
    mixture: Mixture, reader: SequenceReader, sequences_seen: int, skipped=(), progress=lambda done, total: None
) -> list[list[int]]:
    """Return how many tokens counted in the loss, a row per phase and an entry per source, by reading every row again."""
    totals = np.zeros((mixture.num_phases, len(mixture.sources)), dtype=np.int64)
    for done, positions in trained_positions(mixture.first, sequences_seen, skipped, max(1, READ_TOKENS // reader.sequence_length)):
        located = mixture.locate(positions)
        rows = reader.read(located.source, located.sequence, located.epoch)
        counted = (rows[:, 1:].astype(np.int32) >= 0).sum(axis=1)
        np.add.at(totals, (located.phase, located.source), counted)
        progress(done, sequences_seen)
    return totals.tolist()


def named_counts(languages: list[str], counts: np.ndarray) -> dict[str, int]:
    """Return language -> tokens of those that have any; the last count is that of padding positions."""
    return {name: int(n) for name, n in zip([*languages, EMPTY], counts, strict=True) if n}


def predicting_ranges(sequences: np.ndarray, sequence_length: int, packing: Packing | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (start, length) of the stretches of tokens after which one is predicted: windows or packed sequences less their last token."""
    if packing is None:
        return sequences * sequence_length, np.full(len(sequences), sequence_length)
    starts, lengths = piece_ranges(packing, sequences)
    last_pieces = np.cumsum(packing.first[sequences + 1] - packing.first[sequences]) - 1
    lengths[last_pieces] -= 1
    return starts, lengths


def read_ranges(sequences: np.ndarray, sequence_length: int, packing: Packing | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (start, length) of the stretches of tokens that sequences hold, the last label's token included."""
    if packing is None:
        return sequences * sequence_length, np.full(len(sequences), sequence_length + 1)
    return piece_ranges(packing, sequences)


def piece_ranges(packing: Packing, sequences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (start, length) of every piece in the given packed sequences."""
    first, last = packing.first[sequences], packing.first[sequences + 1]
    piece = np.repeat(first - np.concatenate([[0], np.cumsum(last - first)[:-1]]), last - first) + np.arange((last - first).sum())
    return packing.start[piece], packing.length[piece].astype(np.int64)
