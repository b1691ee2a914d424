"""A fair sample of corpora, drawn in one pass: what a tokenizer is trained on, and what tokenizers are compared on."""

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass

from codemix_megatron.corpus.held_out import HeldOutRule, text_digest
from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import BadDocument, InputFile, Position

__all__ = ["SAMPLE_BYTES", "Sampled", "keep_shares", "sample_corpus", "sample_texts", "share_budget"]

SAMPLE_BYTES = 8_000_000  # BPE's merges hardly change above a few megabytes, its training time does
LONGEST_TEXT = 64 << 10
Progress = Callable[[int], None]  # bytes read since the last call


@dataclass(frozen=True, slots=True)
class Sampled:
    """A document of the sample; of a long one the beginning."""

    text: str
    language: str | None


def sample_texts(corpora: list[list[InputFile]], *, rule: HeldOutRule, seed: int, num_bytes: int = SAMPLE_BYTES) -> list[str]:
    """Return texts of at most `num_bytes`, as many bytes from each corpus as it can give of an equal part.

    Every document has the same chance whatever its position; held-out ones have none; of a long one the
    beginning is taken.
    """
    budget = num_bytes // max(1, len(corpora))
    return [sampled.text for inputs in corpora for sampled in sample_corpus(inputs, rule, seed, budget)]


def share_budget(names: list[str], num_bytes: int, shares: dict[str, float] | None = None) -> dict[str, int]:
    """Divide `num_bytes` over corpora by their shares, equally without any; raises CorpusError for shares that do not fit."""
    shares = shares or dict.fromkeys(names, 1 / max(1, len(names)))
    unknown = [name for name in shares if name not in names]
    if unknown:
        raise CorpusError(f"share of {unknown[0]}: no such corpus; there are {', '.join(names)}")
    if any(share < 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-3:
        told = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise CorpusError(f"shares add up to {sum(shares.values()):g}, not 1, or are negative ({told})")
    return {name: int(num_bytes * shares.get(name, 0.0)) for name in names}


def keep_shares(samples: dict[str, list[Sampled]], budget: dict[str, int]) -> dict[str, list[Sampled]]:
    """Cut samples so that a corpus with less than its budget keeps its share of the whole; the first documents stay.

    They come in the order of their hashes, so what stays is a uniform sample too. Raises CorpusError for a corpus without any.
    """
    taken = {name: sum(len(sampled.text.encode()) for sampled in sample) for name, sample in samples.items()}
    for name, num_bytes in budget.items():
        if num_bytes and not taken[name]:
            raise CorpusError(f"{name}: no documents to train on, and a share is wanted of it; check paths and the key of the text")
    scale = min((taken[name] / num_bytes for name, num_bytes in budget.items() if num_bytes), default=1.0)
    return {name: first_bytes(sample, budget[name] * min(1.0, scale)) for name, sample in samples.items()}


def first_bytes(sample: list[Sampled], most: float) -> list[Sampled]:
    """Return the first documents of at most `most` bytes, one at least."""
    kept: list[Sampled] = []
    for sampled in sample:
        most -= len(sampled.text.encode())
        if kept and most < 0:
            break
        kept.append(sampled)
    return kept


def sample_corpus(
    inputs: list[InputFile], rule: HeldOutRule, seed: int, budget: int, progress: Progress = lambda num_bytes: None
) -> list[Sampled]:
    """Keep the documents whose seeded hash is smallest: a uniform sample that needs memory for itself only."""
    kept: list = []
    kept_bytes = 0
    digests: set[bytes] = set()
    for document in documents_of(inputs, progress):
        data = document.text.encode()
        digest = text_digest(data)
        if digest in digests or rule.holds(digest):
            continue
        rank = int.from_bytes(hashlib.blake2b(digest, key=seed.to_bytes(16, "big", signed=True), digest_size=8).digest(), "big")
        size = min(len(data), LONGEST_TEXT)
        if kept_bytes + size > budget and kept and -rank < kept[0][0]:
            continue
        heapq.heappush(kept, (-rank, size, digest, data[:LONGEST_TEXT], document.language))
        digests.add(digest)
        kept_bytes += size
        while kept_bytes > budget and len(kept) > 1:
            _, size, digest, *_ = heapq.heappop(kept)
            digests.discard(digest)
            kept_bytes -= size
    return [Sampled(data.decode("utf-8", "ignore"), language) for _, _, _, data, language in sorted(kept, reverse=True)]


def documents_of(inputs: list[InputFile], progress: Progress):
    """Yield the documents of all files, telling the bytes read."""
    for file in inputs:
        position, told = Position(), 0
        for document in file.read(position):
            if position.bytes_read - told > 1 << 20:
                progress(min(position.bytes_read, file.num_bytes) - told)
                told = min(position.bytes_read, file.num_bytes)
            if not isinstance(document, BadDocument):
                yield document
        progress(file.num_bytes - told)
