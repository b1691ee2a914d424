"""Which documents are never trained on, and how to get at them afterwards."""

from dataclasses import dataclass

import numpy as np
import xxhash

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["DIGEST_BYTES", "HeldOutRule", "held_out_fraction", "held_out_fractions", "held_out_token_documents", "text_digest"]

DIGEST_BYTES = 16


def text_digest(data: bytes) -> bytes:
    """Return the identity of a text, given as UTF-8: 16 bytes of XXH3."""
    return xxhash.xxh3_128_digest(data)


def held_out_fraction(digest: bytes) -> float:
    """Return where a text stands in [0, 1); texts below the held-out share are held out."""
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def held_out_fractions(digests: np.ndarray) -> np.ndarray:
    """Return the same of many digests, given as V16."""
    return (np.ascontiguousarray(digests).view(">u8")[::2].astype(np.uint64) >> np.uint64(16)) / float(1 << 48)


@dataclass(frozen=True)
class HeldOutRule:
    """Decides by the text alone, so that copies fall on one side, in this corpus and in all others.

    `always` and `never` are single texts forced to a side where a small corpus would leave it empty.
    """

    share: float
    always: bytes | None = None
    never: bytes | None = None

    def holds(self, digest: bytes) -> bool:
        """Say whether the text with this digest is held out."""
        if digest in (self.always, self.never):
            return digest == self.always
        return held_out_fraction(digest) < self.share

    def holds_each(self, digests: np.ndarray) -> np.ndarray:
        """Say the same of many digests, given as V16."""
        held = held_out_fractions(digests) < self.share
        for digest in (self.always, self.never):
            if digest is not None:
                held[digests == np.frombuffer(digest, dtype="V16")[0]] = digest == self.always
        return held


def held_out_token_documents(manifest: CorpusManifest, limit: int | None = None) -> list[np.ndarray]:
    """Return the ids of held-out documents, end-of-document id included; the token that begins each is no part of it.

    At most `limit` of them, from the first on; raises CorpusError when the corpus has none.
    """
    reader = IndexedReader(manifest.prefix)
    if reader.num_documents != manifest.num_documents or reader.num_tokens != manifest.num_tokens:
        raise CorpusError(
            f"{manifest.prefix}.idx: {reader.num_documents} documents of {reader.num_tokens} tokens, its manifest promises"
            f" {manifest.num_documents} of {manifest.num_tokens}; prepare the corpus again"
        )
    if not manifest.held_out_documents:
        raise CorpusError(f"{manifest.prefix}: no held-out documents; set evaluation.held_out_share above 0 and prepare it again")
    stop = manifest.num_documents if limit is None else min(manifest.num_documents, manifest.train_documents + limit)
    begin = manifest.tokenizer.beginning_of_document_id
    documents = (reader.document(i) for i in range(manifest.train_documents, stop))
    return [ids[1:] if begin is not None and len(ids) and ids[0] == begin else ids for ids in documents]
