"""A prepared corpus from Python: its manifest, its documents as ids and as text."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.decoded_samples import DecodedDocument, decode_documents, draw_documents
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_recipe
from codemix_megatron.corpus.tokenizers import DocumentTokenizer, tokenizer_of
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["Corpus", "prepare_corpora"]


class Corpus:
    """Documents of PREFIX.bin by number: those trained on first, then the held-out ones.

    `manifest` says what was counted and left out. Raises CorpusError where files are missing or damaged.
    """

    def __init__(self, prefix: str | Path):
        self.manifest = CorpusManifest.read(str(prefix))
        self.reader = IndexedReader(str(prefix))

    def __repr__(self) -> str:
        m = self.manifest
        return f"Corpus({m.name!r}: {m.num_documents:,} documents, {m.num_tokens:,} tokens, {m.held_out_documents:,} held out)"

    def __len__(self) -> int:
        return self.reader.num_documents

    def __getitem__(self, number: int) -> np.ndarray:
        """Return the ids of one document, its end included: [tokens], the dtype of the file."""
        if not 0 <= number < len(self):
            raise IndexError(f"document {number} of {len(self)}")
        return self.reader.document(number)

    @cached_property
    def tokenizer(self) -> DocumentTokenizer:
        """The tokenizer it was prepared with."""
        return tokenizer_of(self.manifest.tokenizer)

    def text(self, number: int) -> str:
        """Return one document as text."""
        return self.tokenizer.decode(self.tokenizer.without_ends(self[number]))

    def sample(self, count: int, seed: int = 0, *, held_out: bool = False) -> Iterator[DecodedDocument]:
        """Yield `count` documents drawn by a seed, each with the same chance: number, ids, text, language."""
        numbers = draw_documents(self.reader, self.manifest, count, seed, held_out=held_out)
        yield from decode_documents(self.reader, self.manifest, self.tokenizer, numbers)


def prepare_corpora(recipe: str | Path, overrides=(), *, workers: int | None = None) -> dict[str, Corpus]:
    """Prepare the corpora of a recipe's file as `codemix prepare` does, resuming what was begun; return them by name."""
    how = HowToPrepare(workers=workers)
    return {name: Corpus(manifest.prefix) for name, manifest in prepare_recipe(read_recipe(recipe, overrides), None, how).items()}
