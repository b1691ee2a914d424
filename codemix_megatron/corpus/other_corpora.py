"""Documents that stand in another corpus already: exact copies by their digests, near ones by their signatures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.document_table import read_signatures, read_table
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.filtering import NearDuplicates
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.manifest import CorpusManifest, manifest_path

__all__ = ["EARLIER", "OtherCorpus", "checksums_of", "other_corpora"]

MOST_OTHERS = 100
EARLIER = "earlier"  # in `apart_from`: all corpora that the recipe names before


@dataclass(frozen=True)
class OtherCorpus:
    """A prepared corpus whose documents are left out of another."""

    name: str
    prefix: str

    def digests(self) -> "SortedDigests":
        """Return the digests of this corpus's texts, in memory: 16 bytes for each document."""
        return SortedDigests(read_table(self.prefix)["digest"])

    def signatures(self, spec: NearDuplicates) -> np.ndarray | None:
        """Return the signatures of this corpus where they were made in the same way, else None."""
        made = CorpusManifest.read(self.prefix).filters.get("near_duplicates") or {}
        if (made.get("permutations"), made.get("shingle_words")) != (spec.permutations, spec.shingle_words):
            return None
        return read_signatures(self.prefix)


class SortedDigests:
    """Digests (V16) in ascending order, as two halves of 64 bits each."""

    def __init__(self, digests: np.ndarray):
        high, low = halves(digests)
        order = np.lexsort((low, high))
        self.high, self.low = high[order], low[order]

    def holds_each(self, digests: np.ndarray) -> np.ndarray:
        """Say of each digest whether it is one of these."""
        high, low = halves(digests)
        first, behind = np.searchsorted(self.high, high, "left"), np.searchsorted(self.high, high, "right")
        found = np.zeros(len(digests), dtype=bool)
        for index in np.flatnonzero(first < behind).tolist():  # one each, as good as always
            found[index] = low[index] in self.low[first[index] : behind[index]]
        return found


def halves(digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last 64 bits of digests."""
    numbers = np.ascontiguousarray(digests).view("<u8").reshape(-1, 2)
    return numbers[:, 0], numbers[:, 1]


def other_corpora(name: str, named: Sequence[str], recipe: Recipe | None) -> list[OtherCorpus]:
    """Return the corpora behind `apart_from` of a corpus: names of those before it in the recipe, `earlier` for all, or prefixes."""
    order = list(recipe.corpora) if recipe else []
    before = order[: order.index(name)] if name in order else []
    found: dict[str, OtherCorpus] = {}
    for entry in named:
        if entry in order and entry not in before:
            raise CorpusError(f"corpora.{name}.filters.apart_from: {entry} comes after it in the recipe; put it before {name}")
        for other in before if entry == EARLIER else [entry]:
            prefix = str(recipe.corpora[other].prefix) if recipe and other in order else other
            found.setdefault(prefix, OtherCorpus(other if other in order else Path(other).name, prefix))
    if len(found) > MOST_OTHERS:
        raise CorpusError(f"corpora.{name}.filters.apart_from: found {len(found)} corpora, allowed are {MOST_OTHERS}; merge some")
    return list(found.values())


def checksums_of(others: Sequence[OtherCorpus], where: str) -> dict[str, str]:
    """Return prefix -> checksum of the tokens of each; raises CorpusError for one that is not prepared yet."""
    checksums = {}
    for other in others:
        if not manifest_path(other.prefix).is_file():
            raise CorpusError(f"{where}.filters.apart_from: {other.name} is not prepared at {other.prefix}; prepare it first")
        checksums[other.prefix] = CorpusManifest.read(other.prefix).bin_sha256
    return checksums
