"""The reader of a recipe's sequences: packed, windows, or by buckets; rewritten for infilling, with what is not learned hidden."""

import numpy as np

from codemix_megatron.mixture.buckets import bucket_packing, documents_in_buckets
from codemix_megatron.mixture.fill_in_the_middle import middle_filler
from codemix_megatron.mixture.packing import PackedReader, Packing, pack
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["recipe_packings", "recipe_reader", "sequences_of_buckets"]


def recipe_reader(recipe: Recipe, manifests: dict[str, CorpusManifest], *, rewrites: bool = True) -> SequenceReader:
    """Return what reads these sources, in their order; raises CorpusError as `middle_filler` does, unless nothing is to be rewritten."""
    rewriter = middle_filler(recipe, manifests) if rewrites else None
    across, length = recipe.sequences.learn_across_documents, recipe.model.sequence_length
    packings = recipe_packings(recipe, manifests)
    if packings is None:
        return SequenceReader(list(manifests.values()), length, rewriter, learn_across_documents=across)
    return PackedReader(list(manifests.values()), length, rewriter, learn_across_documents=across, packings=packings)


def recipe_packings(recipe: Recipe, manifests: dict[str, CorpusManifest]) -> list[Packing | None] | None:
    """Return the table of each source whose sequences are put together of pieces; None where all have windows."""
    length, packs = recipe.model.sequence_length, recipe.sequences.packing == "best_fit"
    if not packs and not any(name in recipe.sources for name in manifests):
        return None
    return [
        sequences_of_buckets(recipe, name, manifest)[0] if name in recipe.sources else pack(manifest, length) if packs else None
        for name, manifest in manifests.items()
    ]


def sequences_of_buckets(recipe: Recipe, name: str, manifest: CorpusManifest) -> tuple[Packing, list[int], np.ndarray]:
    """Return the sequences of a source's buckets, one bucket after the other, how many each has, and the bucket of each document."""
    spec, best_fit = recipe.sources[name], recipe.sequences.packing == "best_fit"
    buckets = documents_in_buckets(manifest, spec, f"sources.{name}")
    packing, counts = bucket_packing(manifest, buckets, len(spec.epochs) + 1, recipe.model.sequence_length, best_fit=best_fit)
    return packing, counts, buckets
