"""Documents of a corpus as text and encoded again by the library that defines the ids: whether the corpus holds what it would give.

Checked are documents drawn from all over the corpus and those that hold the rarest ids, for libraries differ on rare text. A document
whose text does not determine its ids (bytes that are no UTF-8, special tokens, what the tokenizer rewrites) is not checked.
"""

from dataclasses import dataclass, field

import numpy as np

from codemix_megatron.corpus.encoders import ReferenceEncoder
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.tokenizers import DocumentTokenizer

__all__ = ["RareIds", "Reencoded", "reencode_documents"]

DRAWN_DOCUMENTS, RARE_DOCUMENTS = 48, 48
MOST_TOKENS = 200_000  # of all documents encoded again; the reference takes about a second for them
REPLACEMENT = "\ufffd"


class RareIds:
    """Where ids stand that occur seldom; fed with the ids as they stream by."""

    def __init__(self, vocab_size: int):
        self.counts = np.zeros(vocab_size, dtype=np.int64)
        self.last = np.zeros(vocab_size, dtype=np.int64)

    def take(self, position: int, ids: np.ndarray) -> None:
        """Count the ids that begin at a position of the stream."""
        known = ids[(ids >= 0) & (ids < len(self.counts))] if len(ids) else ids
        self.counts += np.bincount(known, minlength=len(self.counts))
        if len(known) == len(ids):
            self.last[ids] = np.arange(position, position + len(ids))

    def positions(self, limit: int) -> np.ndarray:
        """Return positions of the stream at which the rarest ids stand."""
        occurring = np.flatnonzero(self.counts)
        return self.last[occurring[np.argsort(self.counts[occurring], kind="stable")][:limit]]


@dataclass
class Reencoded:
    """What came of encoding documents again."""

    library: str
    same: int = 0
    untold: int = 0  # documents whose text does not determine their ids
    differences: list[str] = field(default_factory=list)


def reencode_documents(reader: IndexedReader, tokenizer: DocumentTokenizer, rare: RareIds | None = None) -> Reencoded:
    """Decode documents, encode them again by the reference, and compare the ids."""
    result = Reencoded(ReferenceEncoder(tokenizer).name)
    special = {number for name in tokenizer.special_names() if (number := tokenizer.token_id(name)) is not None}
    left = MOST_TOKENS
    for number in chosen_documents(reader, rare):
        ids = np.asarray(reader.document(number))
        left -= len(ids)
        if left < 0:
            break
        compare(result, number, tokenizer.without_ends(ids), tokenizer, special)
    return result


def chosen_documents(reader: IndexedReader, rare: RareIds | None) -> list[int]:
    """Return the numbers of the documents to look at."""
    count = min(DRAWN_DOCUMENTS, reader.num_documents)
    drawn = np.random.default_rng(0).choice(reader.num_documents, size=count, replace=False).tolist() if count else []
    if rare is None:
        return drawn
    ends = np.cumsum(np.asarray(reader.document_lengths, dtype=np.int64))
    holding = np.searchsorted(ends, rare.positions(RARE_DOCUMENTS), side="right").tolist()
    return list(dict.fromkeys(number for pair in zip_longest(holding, drawn) for number in pair if number < reader.num_documents))


def zip_longest(one: list[int], other: list[int]) -> list[tuple[int, ...]]:
    """Return the first of both, the second of both, and so on."""
    return [(*one[index : index + 1], *other[index : index + 1]) for index in range(max(len(one), len(other)))]


def compare(result: Reencoded, number: int, ids: np.ndarray, tokenizer: DocumentTokenizer, special: set[int]) -> None:
    """Encode one document again."""
    text = tokenizer.decode(ids)
    is_told = len(ids) and not special.intersection(ids.tolist()) and REPLACEMENT not in text and tokenizer.unknown.unknown_id not in ids
    again = tokenizer.encode_batch([text])[0] if is_told else ids[:0]
    if is_told and np.array_equal(again, ids):
        result.same += 1
    elif is_told and tokenizer.decode(again) == text:
        position = int(np.argmin(np.concatenate([again[: len(ids)] == ids[: len(again)], [False]])))
        result.differences.append(
            f"document {number}: its text has other ids with {result.library}; the first at token {position} of the document:"
            f" {ids[position : position + 3].tolist()} here, {again[position : position + 3].tolist()} there"
        )
    else:
        result.untold += 1
