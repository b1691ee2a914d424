"""Conversations to ids: turn by turn, so that an answer has the ids a model would write after its prompt.

What a template writes may name special tokens, which become their ids; what people say is text, whatever stands in it, so that nobody
ends a turn but the template. A special token right behind an answer ends it and is learned with it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codemix_megatron.corpus.encoders import Encoder
from codemix_megatron.corpus.tokenizers import DocumentTokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import Document, Turn
from codemix_megatron.readers.repositories import FILE_SEPARATOR, REPOSITORY_NAME

__all__ = ["EncodedTurns", "TurnEncoding"]

WITHOUT_TOKENS = {REPOSITORY_NAME: "# repository: ", FILE_SEPARATOR: "\n# file: "}  # where a tokenizer has no such tokens


@dataclass(frozen=True)
class EncodedTurns:
    """Ids of documents end to end, how many each has, and of each id whether it is learned."""

    ids: np.ndarray
    lengths: np.ndarray
    is_learned: np.ndarray


@dataclass(frozen=True)
class TurnEncoding:
    """The special tokens of a tokenizer, by name; may be pickled."""

    special: dict[str, int]
    end_of_document_id: int
    beginning_of_document_id: int | None

    @classmethod
    def of(cls, tokenizer: DocumentTokenizer) -> "TurnEncoding":
        """Return the encoding of a tokenizer's conversations."""
        numbers = {name: tokenizer.token_id(name) for name in tokenizer.special_names()}
        known = {name: number for name, number in numbers.items() if number is not None}
        return cls(known, tokenizer.end_of_document_id, tokenizer.metadata.beginning_of_document_id)

    def encode(self, documents: Sequence[Document], encoder: Encoder) -> EncodedTurns:
        """Return the ids of conversations; texts of all turns are encoded together."""
        pieces = [self.pieces(document) for document in documents]
        texts = [text for of_document in pieces for text, _ in of_document if isinstance(text, str)]
        flat, counts = encoder.encode_flat(texts, [text.encode() for text in texts])
        encoded = iter(np.split(flat.astype(np.int64), np.cumsum(counts)[:-1]) if texts else [])
        ids, learned, lengths = [np.empty(0, np.int64)], [np.empty(0, bool)], []
        for of_document in pieces:
            parts = [(next(encoded) if isinstance(text, str) else np.array([text]), is_learned) for text, is_learned in of_document]
            ids += [part for part, _ in parts]
            learned += [np.full(len(part), is_learned) for part, is_learned in parts]
            lengths.append(sum(len(part) for part, _ in parts))
        return EncodedTurns(np.concatenate(ids), np.array(lengths, dtype=np.int64), np.concatenate(learned))

    def pieces(self, document: Document) -> list[tuple[str | int, bool]]:
        """Return texts and special ids of a document, each with whether it is learned, without those that begin and end documents."""
        if document.turns and document.turns[0].text == REPOSITORY_NAME and not {REPOSITORY_NAME, FILE_SEPARATOR} <= self.special.keys():
            return [("".join(WITHOUT_TOKENS.get(t.text, t.text) if t.is_template else t.text for t in document.turns), True)]
        if not document.turns:
            return [(document.text, True)]
        found: list[tuple[str | int, bool]] = []
        for before, turn in zip([None, *document.turns], document.turns, strict=False):
            found += self.template_pieces(turn, before) if turn.is_template else [(turn.text, turn.is_learned)]
        if found and found[0][0] == self.beginning_of_document_id:
            found = found[1:]
        while found and (found[-1][0] == self.end_of_document_id or (isinstance(found[-1][0], str) and self.is_behind_end(found))):
            found = found[:-1]
        if any(piece == self.end_of_document_id for piece, _ in found):
            raise CorpusError(
                f"{document.identity}: the chat template writes the token that ends documents (id {self.end_of_document_id}) inside a"
                " conversation; name another in tokenizer.end_of_document"
            )
        return found

    def is_behind_end(self, found: list) -> bool:
        """Say whether the last text is the white space that templates write behind the token that ends a document."""
        return not found[-1][0].strip() and len(found) > 1 and found[-2][0] == self.end_of_document_id

    def template_pieces(self, turn: Turn, before: Turn | None) -> list[tuple[str | int, bool]]:
        """Return what a template wrote, special tokens as ids; the first one right behind an answer is learned."""
        if not self.special:
            return [(turn.text, turn.is_learned)]
        names = re.compile("(" + "|".join(map(re.escape, sorted(self.special, key=len, reverse=True))) + ")")
        split = [piece for piece in names.split(turn.text) if piece]
        found: list[tuple[str | int, bool]] = [(self.special.get(piece, piece), turn.is_learned) for piece in split]
        if before is not None and before.is_learned and not before.is_template and isinstance(found[0][0], int):
            found[0] = (found[0][0], True)
        return found
