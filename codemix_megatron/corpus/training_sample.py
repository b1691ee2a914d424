"""The texts a tokenizer is trained on: a fair sample of all corpora, drawn in one pass."""

import hashlib
import heapq

from codemix_megatron.corpus.documents import BadDocument, InputFile
from codemix_megatron.corpus.held_out import HeldOutRule, text_digest

__all__ = ["SAMPLE_BYTES", "sample_texts"]

SAMPLE_BYTES = 8_000_000  # BPE's merges hardly change above a few megabytes, its training time does
LONGEST_TEXT = 64 << 10


def sample_texts(corpora: list[list[InputFile]], *, rule: HeldOutRule, seed: int, num_bytes: int = SAMPLE_BYTES) -> list[str]:
    """Return texts of at most `num_bytes`, as many bytes from each corpus as it can give of an equal part.

    Every document has the same chance whatever its place; held-out ones have none; of a long one the
    beginning is taken.
    """
    budget = num_bytes // max(1, len(corpora))
    return [text for inputs in corpora for text in sample_corpus(inputs, rule, seed, budget)]


def sample_corpus(inputs: list[InputFile], rule: HeldOutRule, seed: int, budget: int) -> list[str]:
    """Keep the documents whose seeded hash is smallest: a uniform sample that needs memory for itself only."""
    kept, kept_bytes, digests = [], 0, set()
    for file in inputs:
        for document in file.read():
            if isinstance(document, BadDocument):
                continue
            data = document.text.encode()
            digest = text_digest(data)
            if digest in digests or rule.holds(digest):
                continue
            rank = int.from_bytes(hashlib.blake2b(digest, key=seed.to_bytes(16, "big", signed=True), digest_size=8).digest(), "big")
            size = min(len(data), LONGEST_TEXT)
            if kept_bytes + size > budget and kept and -rank < kept[0][0]:
                continue
            heapq.heappush(kept, (-rank, size, digest, data[:LONGEST_TEXT]))
            digests.add(digest)
            kept_bytes += size
            while kept_bytes > budget and len(kept) > 1:
                _, size, digest, _ = heapq.heappop(kept)
                digests.discard(digest)
                kept_bytes -= size
    return [data.decode("utf-8", "ignore") for _, _, _, data in sorted(kept, reverse=True)]
