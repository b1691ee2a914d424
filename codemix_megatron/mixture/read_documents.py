"""Which documents a run has read: those that a token it was trained on stands in."""

import numpy as np

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.mixture.audit import read_ranges
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import Packing
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["documents_read"]

BATCH_POSITIONS = 1 << 16


def documents_read(
    mixture: Mixture,
    manifests: list[CorpusManifest],
    sequence_length: int,
    sequences_seen: int,
    packings: list[Packing | None] | None = None,
) -> list[np.ndarray]:
    """Return, for each source, of each training document whether the positions before `sequences_seen` hold a token of it; bool."""
    ends = [np.cumsum(np.asarray(IndexedReader(m.prefix).document_lengths[: m.train_documents], dtype=np.int64)) for m in manifests]
    changes = [np.zeros(len(end) + 1, dtype=np.int64) for end in ends]  # documents that begin to be read, less those behind the last
    for first in range(mixture.first, sequences_seen, BATCH_POSITIONS):
        located = mixture.locate(np.arange(first, min(first + BATCH_POSITIONS, sequences_seen)))
        for source in np.unique(located.source):
            drawn = located.sequence[located.source == source]
            starts, lengths = read_ranges(drawn, sequence_length, packings[source] if packings else None)
            np.add.at(changes[source], np.searchsorted(ends[source], starts, side="right"), 1)
            last = np.searchsorted(ends[source], starts + lengths - 1, side="right")
            np.add.at(changes[source], np.minimum(last + 1, len(ends[source])), -1)
    return [np.cumsum(change)[:-1] > 0 for change in changes]
