"""The reader of a recipe's sequences: packed or windows, rewritten for infilling, with what is not learned hidden."""

from codemix_megatron.mixture.fill_in_the_middle import middle_filler
from codemix_megatron.mixture.packing import PackedReader
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["recipe_reader"]


def recipe_reader(recipe: Recipe, manifests: dict[str, CorpusManifest], *, rewrites: bool = True) -> SequenceReader:
    """Return what reads these sources, in their order; raises CorpusError as `middle_filler` does, unless nothing is to be rewritten."""
    kind = PackedReader if recipe.sequences.packing == "best_fit" else SequenceReader
    rewriter = middle_filler(recipe, manifests) if rewrites else None
    across = recipe.sequences.learn_across_documents
    return kind(list(manifests.values()), recipe.model.sequence_length, rewriter, learn_across_documents=across)
