"""How well a given model expects a document: bits per byte of its text, by the model's own tokenizer."""

import hashlib
import math
from pathlib import Path

import numpy as np

from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.scoring.scorer import Columns, Documents, empty_column

__all__ = ["DocumentPerplexity", "folder_settings"]


class DocumentPerplexity:
    """Bits per byte and perplexity per token of the beginning of each document."""

    columns = ("bits_per_byte", "perplexity")
    is_model = True

    def __init__(self, folder, most_tokens: int = 2048):
        from codemix_megatron.inference.exported import load_exported

        self.model, self.most_tokens = load_exported(folder), most_tokens
        self.settings = {**folder_settings(folder), "most_tokens": most_tokens}

    def score(self, documents: Documents) -> Columns:
        """Return the columns; an empty document has none."""
        from codemix_megatron.inference.document_likelihoods import document_nats

        columns = {name: empty_column(documents) for name in self.columns}
        texts = [text.decode("utf-8", "replace") for text in documents.texts]
        ids = [self.model.encode(text, is_whole=False)[: self.most_tokens] for text in texts]
        chosen = [i for i, of_document in enumerate(ids) if of_document]
        nats = document_nats(self.model, [np.asarray(ids[i]) for i in chosen], self.model.prefix_id)
        for index, value in zip(chosen, nats, strict=True):
            size = len(self.model.decode(ids[index]).encode("utf-8", "replace"))
            columns["bits_per_byte"][index] = value / math.log(2) / max(1, size)
            columns["perplexity"][index] = math.exp(min(700.0, value / len(ids[index])))
        return columns


def folder_settings(folder) -> dict:
    """Return what identifies a model: its folder's name, and a digest of its settings and weights."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.suffix in (".json", ".safetensors", ".bin"):
            digest.update(path.name.encode() + bytes.fromhex(file_sha256(path)))
    return {"by": Path(folder).resolve().name, "sha256": digest.hexdigest()[:16]}
