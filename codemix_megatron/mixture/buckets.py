"""Documents of a corpus in buckets by a score, as one source: which bucket a draw reads, and what the sequences of a bucket are.

A round of a source reads each of its buckets as often as the recipe says; its draws are interleaved over the buckets as phases are over
sources. So draw -> (bucket, draw of the bucket) is a function of the number alone, exact at the end of each round, within a sequence per level of
the tree before, and draws run on across phases. Sequences of a bucket are made of its documents alone, as of a corpus of its own.
"""

from itertools import pairwise

import numpy as np

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.score_table import read_score
from codemix_megatron.errors import CorpusError
from codemix_megatron.mixture.interleave import Interleaving, prefix_counts
from codemix_megatron.mixture.packing import Packing, pack_documents
from codemix_megatron.recipe.sources import Source
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["Round", "bucket_names", "bucket_packing", "bucket_windows", "documents_in_buckets", "readings"]


class Round:
    """The order of a source's draws over its buckets: `counts` sequences of each in a round.

    An epoch of a bucket has `sequences`; its files hold `stored` of them, more than that where a part of each corpus stands for all.
    """

    def __init__(self, counts, sequences, stored=None):
        self.order = Interleaving(counts)
        self.counts, self.sequences = self.order.counts, np.asarray(sequences, dtype=np.int64)
        self.stored = self.sequences if stored is None else np.asarray(stored, dtype=np.int64)

    def __len__(self) -> int:
        return self.order.total

    def locate(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (bucket, draw of that bucket) for draws of the source."""
        rounds, offset = np.divmod(draws, len(self))
        bucket, index = self.order.locate(offset)
        return bucket, rounds * self.counts[bucket] + index

    def drawn(self, draws: int) -> np.ndarray:
        """Return how many sequences of each bucket are among the first `draws` of the source."""
        rounds, offset = divmod(int(draws), len(self))
        return rounds * self.counts + prefix_counts(self.order, offset)


def readings(spec: Source) -> tuple[float, ...]:
    """Return how often a round reads each bucket; the last is that of documents without a score."""
    return (*spec.epochs, spec.unscored or 0.0)


def bucket_names(spec: Source) -> list[str]:
    """Return what each bucket is called."""
    borders = [f"{border:g}" if spec.buckets else f"{100 * border:g} %" for border in (spec.buckets or spec.quantiles)]
    inner = [f"{spec.by} {low} to {high}" for low, high in pairwise(borders)]
    return [f"{spec.by} below {borders[0]}", *inner, f"{spec.by} from {borders[-1]}", f"no {spec.by}"]


def documents_in_buckets(manifest: CorpusManifest, spec: Source, where: str) -> np.ndarray:
    """Return the bucket of each training document; raises CorpusError where scores are missing that should be there."""
    scores = read_score(manifest, spec.by)
    lengths = np.asarray(IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents], dtype=np.int64)
    unknown = np.isnan(scores)
    if unknown.any() and spec.unscored is None:
        raise CorpusError(
            f"{where}: {int(unknown.sum())} of {len(scores)} documents have no {spec.by} (document {int(np.argmax(unknown))} is the first);"
            f" say in {where}.unscored how often they are read, 0 for never"
        )
    borders = np.asarray(spec.buckets or quantile_borders(scores[~unknown], lengths[~unknown], spec.quantiles))
    return np.where(unknown, len(spec.epochs), np.searchsorted(borders, scores, side="right"))


def quantile_borders(scores: np.ndarray, lengths: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Return the scores below which documents hold these shares of the tokens; documents of one score stay together."""
    order = np.argsort(scores, kind="stable")
    before = np.cumsum(lengths[order]) - lengths[order]
    at = np.searchsorted(before, np.asarray(shares) * lengths.sum(), side="left")
    return [float(scores[order][index]) if index < len(order) else np.inf for index in at]


def bucket_packing(
    manifest: CorpusManifest, buckets: np.ndarray, count: int, sequence_length: int, *, best_fit: bool
) -> tuple[Packing, list[int]]:
    """Return the sequences of all buckets, one bucket after the other, and how many each has."""
    lengths = np.asarray(IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents], dtype=np.int64)
    make = pack_documents if best_fit else bucket_windows
    packings = [make(lengths, buckets == bucket, sequence_length) for bucket in range(count)]
    starts = np.cumsum([0, *(len(packing.start) for packing in packings)])
    first = np.concatenate([*(packing.first[:-1] + start for packing, start in zip(packings, starts, strict=False)), starts[-1:]])
    joined = Packing(
        first, np.concatenate([p.start for p in packings]), np.concatenate([p.length for p in packings]), sequence_length + 1
    )  # fmt: skip
    return joined, [packing.num_sequences for packing in packings]


def bucket_windows(lengths: np.ndarray, chosen: np.ndarray, sequence_length: int) -> Packing:
    """Cut the chosen documents, laid end to end, into windows of sequence_length + 1 tokens that overlap by one; neighbours are one piece."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).reshape(-1, 2)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    starts, sizes = ends[edges[:, 0]], ends[edges[:, 1]] - ends[edges[:, 0]]
    within = np.cumsum(sizes) - sizes  # where each run of documents begins among the chosen tokens
    number = max(0, (int(sizes.sum()) - 1) // sequence_length)
    begin = np.arange(number, dtype=np.int64) * sequence_length
    first_run = np.searchsorted(within, begin, side="right") - 1
    last_run = np.searchsorted(within, begin + sequence_length, side="right") - 1
    pieces = last_run - first_run + 1
    first = np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64)
    run = np.repeat(first_run - first[:-1], pieces) + np.arange(first[-1])
    window = np.repeat(begin, pieces)
    low = np.maximum(within[run], window)
    high = np.minimum(within[run] + sizes[run], window + sequence_length + 1)
    return Packing(first, starts[run] + low - within[run], (high - low).astype(np.int32), sequence_length + 1)
