"""Held-out documents of a corpus as a model with another tokenizer reads them: the same texts, cut at the same positions."""

from pathlib import Path

import numpy as np

from codemix_megatron.corpus.tokenizers import tokenizer_of
from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["OtherTokenizer", "reader_of"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


def reader_of(model, manifest: CorpusManifest):
    """Return what reads a corpus's ids for a model: the model itself where the tokenizer is its own, else an OtherTokenizer."""
    folder = getattr(model, "folder", None)
    files = [Path(folder) / name for name in TOKENIZER_FILES] if folder is not None else []
    if not files or any(path.is_file() and file_sha256(path) == manifest.tokenizer.sha256 for path in files):
        return model
    return OtherTokenizer(model, manifest)


class OtherTokenizer:
    """Decodes a corpus by the tokenizer it was made with, and gives its texts the ids of the model's."""

    def __init__(self, model, manifest: CorpusManifest):
        if model.end_id is None:
            raise EvaluationError(
                f"{model.folder}: its tokenizer has no token that ends a text (eos_token); name one in its tokenizer_config.json"
            )
        self.model, self.tokenizer = model, tokenizer_of(manifest.tokenizer)

    @property
    def max_length(self) -> int:
        """Tokens the model sees at once."""
        return self.model.max_length

    def decode(self, ids) -> str:
        """Return the text of the corpus's ids."""
        return self.tokenizer.decode(np.asarray(ids))

    def text(self, ids: np.ndarray) -> str:
        """Return the text of a document without the tokens that begin and end it."""
        return self.tokenizer.decode(self.tokenizer.without_ends(np.asarray(ids)))

    def ids(self, ids: np.ndarray) -> np.ndarray:
        """Return a document's ids in the model's tokens, with the model's end of a text where the document's own end is there."""
        ended = len(ids) and ids[-1] == self.tokenizer.end_of_document_id
        return np.array([*self.model.encode(self.text(ids), is_whole=False), *([self.model.end_id] if ended else [])], dtype=np.int64)
