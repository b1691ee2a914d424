"""Which documents stand at which positions of a run: so that a batch can be named."""

import numpy as np

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.mixture.audit import read_ranges
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import Packing
from codemix_megatron.mixture.remote import is_remote
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["documents_at"]


def documents_at(
    mixture: Mixture,
    manifests: list[CorpusManifest],
    sequence_length: int,
    positions: np.ndarray,
    packings: list[Packing | None] | None = None,
) -> dict[str, list[int]]:
    """Return source -> numbers of the documents (from 0, as in the source's .idx file) that the sequences at `positions` touch.

    Sources behind a URL are left out: their index is not here.
    """
    located, named = mixture.locate(positions), {}
    for source in np.unique(located.source).tolist():
        manifest = manifests[source]
        if is_remote(manifest.prefix):
            continue
        drawn = located.sequence[located.source == source]
        starts, lengths = read_ranges(drawn, sequence_length, packings[source] if packings else None)
        ends = np.cumsum(np.asarray(IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents], dtype=np.int64))
        first, last = np.searchsorted(ends, starts, side="right"), np.searchsorted(ends, starts + lengths - 1, side="right")
        numbers = {n for begin, end in zip(first.tolist(), last.tolist(), strict=True) for n in range(begin, end + 1)}
        named[mixture.sources[source]] = sorted(numbers)
    return named
