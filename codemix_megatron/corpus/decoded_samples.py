"""Documents of a prepared corpus as text again: drawn by a seed, or by their number."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.tokenizers import DocumentTokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["DecodedDocument", "decode_documents", "draw_documents"]


@dataclass(frozen=True)
class DecodedDocument:
    """One document; `text` is None where no tokenizer is known."""

    number: int
    ids: np.ndarray
    text: str | None
    is_held_out: bool
    language: str | None


def draw_documents(reader: IndexedReader, manifest: CorpusManifest | None, count: int, seed: int, *, held_out: bool = False) -> list[int]:
    """Return the numbers of `count` documents, each with the same chance, in order; of held-out ones where asked."""
    if held_out and not (manifest and manifest.held_out_documents):
        raise CorpusError(f"{reader.prefix}: no held-out documents known; {'all are trained on' if manifest else 'there is no manifest'}")
    first = manifest.train_documents if held_out and manifest else 0
    population = reader.num_documents - first
    drawn = np.random.default_rng(seed).choice(population, size=min(count, population), replace=False)
    return sorted((drawn + first).tolist())


def decode_documents(
    reader: IndexedReader, manifest: CorpusManifest | None, tokenizer: DocumentTokenizer | None, numbers: list[int]
) -> Iterator[DecodedDocument]:
    """Yield documents by number, without their end-of-document id; raises CorpusError for one that is not there."""
    path = Path(f"{reader.prefix}.languages.npy")
    languages = np.load(path, mmap_mode="r") if manifest and manifest.languages and path.is_file() else ()
    names = list(manifest.languages) if manifest else []
    for number in numbers:
        if not 0 <= number < reader.num_documents:
            raise CorpusError(f"{reader.prefix}: no document {number}; there are {reader.num_documents}, numbered from 0")
        ids = reader.document(number)
        shown = tokenizer.without_ends(ids) if tokenizer else ids
        yield DecodedDocument(
            number=number,
            ids=ids,
            text=tokenizer.decode(shown) if tokenizer else None,
            is_held_out=manifest is not None and number >= manifest.train_documents,
            language=names[languages[number]] if number < len(languages) else None,
        )
