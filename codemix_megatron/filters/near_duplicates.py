"""Documents nearly alike: MinHash signatures made where documents are read, compared once all of them are there.

A signature holds the low byte of each of `permutations` minima (b-bit minwise hashing, Li and König 2010): 128 bytes
are enough to estimate a similarity of 0.7 to within 0.04, and a hundred million of them are 13 GB on disk, read once per
band. Bands find the candidates (locality-sensitive hashing); whole signatures decide. The minima are rensa's.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codemix_megatron.filters.word_hashes import run_hashes, word_hashes
from codemix_megatron.recipe.filtering import NearDuplicates

__all__ = ["NEAR_DUPLICATE", "band_keys", "decide", "document_signature", "find_near_duplicates", "rows_per_band"]

NEAR_DUPLICATE = "near duplicate"
SEED = 1
CHANCE = 1 / 256  # that the bytes of two different minima are equal
MISSED_SHARE = 0.02  # of the pairs that are exactly as similar as asked for
MOST_ROWS = 8  # rows of one byte each that make a key of 64 bits


def document_signature(text: str, spec: NearDuplicates) -> bytes:
    """Return `permutations` bytes that are equal, position by position, as often as two documents share shingles.

    A text of fewer words than a shingle is one shingle; one without words is compared by its characters.
    """
    from rensa import RMinHash

    words = word_hashes(text)
    shingles = run_hashes(words, min(spec.shingle_words, max(1, len(words))))
    if not len(shingles):
        shingles = run_hashes(np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64), 1)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(shingles, [0, len(shingles)], spec.permutations, SEED).to_rows()
    return np.array(rows[0], dtype=np.uint32).astype(np.uint8).tobytes()


def rows_per_band(spec: NearDuplicates) -> int:
    """Return the longest bands that miss no more than 2 % of the pairs just similar enough."""
    match = spec.similarity + (1 - spec.similarity) * CHANCE
    missed = {rows: (1 - match**rows) ** (spec.permutations // rows) for rows in range(1, MOST_ROWS + 1)}
    return max((rows for rows in missed if missed[rows] <= MISSED_SHARE), default=1)


def find_near_duplicates(signatures: np.ndarray, spec: NearDuplicates, num_fixed: int = 0, scratch: Path | None = None) -> np.ndarray:
    """Return, for each document in order, the earlier document it is nearly a copy of, or -1 when it stays; int64 [documents].

    `signatures` is uint8 [documents, permutations], a memory map when there are many. The first of documents alike
    stays, and only those that stay are compared with, so that no chain of small changes drops what differs from all
    that remain. The first `num_fixed` stay whatever they are like: they are documents of other corpora. Needs no scratch, but about 70 bytes of
    memory per document, and a few hundred per document that has a candidate; a million documents take 5 CPU-seconds.
    """
    signatures = signatures.reshape(-1, spec.permutations)
    rows = rows_per_band(spec)
    candidates: dict[int, list[tuple[int, int]]] = {}  # document -> (band, key) of those shared with another document
    for band in range(spec.permutations // rows):
        keys = band_keys(signatures, band, rows)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        is_shared = np.zeros(len(keys), dtype=bool)
        equal = ordered[1:] == ordered[:-1]
        is_shared[1:] |= equal
        is_shared[:-1] |= equal
        for document, key in zip(order[is_shared].tolist(), ordered[is_shared].tolist(), strict=True):
            candidates.setdefault(document, []).append((band, key))
    original = np.full(len(signatures), -1, dtype=np.int64)
    for document, other in decide(signatures, candidates, spec, num_fixed):
        original[document] = other
    return original


def band_keys(signatures: np.ndarray, band: int, rows: int) -> np.ndarray:
    """Return the bytes of one band as one number per document."""
    keys = np.zeros((len(signatures), 8), dtype=np.uint8)
    keys[:, :rows] = signatures[:, band * rows : (band + 1) * rows]
    return keys.view(np.uint64)[:, 0]


def decide(
    signatures: np.ndarray, candidates: dict[int, list[tuple[int, int]]], spec: NearDuplicates, num_fixed: int
) -> Iterator[tuple[int, int]]:
    """Compare each document, in order, with the first that stays under each of its keys; yield (document, what it is a copy of)."""
    first: dict[tuple[int, int], int] = {}
    for document in sorted(candidates):
        shared = candidates[document]
        others = sorted({first[key] for key in shared if key in first})
        alike = [
            other
            for other in others
            if document >= num_fixed and estimated_similarity(signatures[document], signatures[other]) >= spec.similarity
        ]
        if alike:
            yield document, alike[0]
        else:
            for key in shared:
                first.setdefault(key, document)


def estimated_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Jaccard similarity two signatures speak for, chance matches taken out."""
    return (float((one == other).mean()) - CHANCE) / (1 - CHANCE)
