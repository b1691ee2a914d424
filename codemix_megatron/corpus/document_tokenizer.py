"""What every tokenizer of documents does: text to ids and back, with an id behind each document; and what may be asked of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.unknown_text import UnknownText
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import TokenizerMetadata

__all__ = ["END_OF_DOCUMENT_NAMES", "END_OF_TEXT", "NONE_ASKED", "DocumentTokenizer", "SpecialTokens", "found_id"]

END_OF_TEXT = "<|endoftext|>"
# What tokenizers call the token after a document, the most telling first.
END_OF_DOCUMENT_NAMES = (
    END_OF_TEXT, "<|end_of_text|>", "<|endofdocument|>", "<|eod|>", "<|eos|>", "</s>", "<eos>", "<EOS>", "[EOS]", "<|im_end|>",
)  # fmt: skip


@dataclass(frozen=True)
class SpecialTokens:
    """What a recipe asks of the tokens around and inside documents, by name; None and nothing leave it to the tokenizer's files."""

    end_of_document: str | None = None
    beginning_of_document: str | None = None
    in_documents: tuple[str, ...] = ()


NONE_ASKED = SpecialTokens()


class DocumentTokenizer(ABC):
    """Text to ids and back. Whatever stands in a document is text: it never becomes a special token."""

    metadata: TokenizerMetadata
    model_bytes: bytes  # what a faster library of the same ids can be made from
    unknown: UnknownText  # what it has no token for

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return self.metadata.vocab_size

    @property
    def end_of_document_id(self) -> int:
        """The id written after each document."""
        return self.metadata.end_of_document_id

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the int32 ids of each text, without any special token; uses all cores."""

    @abstractmethod
    def decode(self, ids) -> str:
        """Return the text of ids, special tokens spelled out where the library can."""

    @abstractmethod
    def special_names(self) -> list[str]:
        """Return the names of the special tokens; in a document, they are text."""

    @abstractmethod
    def token_id(self, name: str) -> int | None:
        """Return the id of a token by its name, None where the vocabulary has none."""

    def without_ends(self, ids: np.ndarray) -> np.ndarray:
        """Return the ids of a document without those that begin and end it."""
        if len(ids) and ids[0] == self.metadata.beginning_of_document_id:
            ids = ids[1:]
        return ids[:-1] if len(ids) and ids[-1] == self.end_of_document_id else ids

    def beginning_id(self, name: str | None, path: Path) -> int | None:
        """Return the id of the token before each document, None where none is asked for; raises CorpusError when it is missing."""
        number = None if name is None else self.token_id(name)
        if name is not None and number is None:
            raise CorpusError(f"{path}: no token {name!r} in its vocabulary; set tokenizer.beginning_of_document to one it has")
        return number

    def check_literals(self, end: str | None, beginning: str | None) -> None:
        """Raise CorpusError when the name of the token that ends or begins documents would become its id when a document contains it."""
        of_documents = (("end", end, self.end_of_document_id), ("begin", beginning, self.metadata.beginning_of_document_id))
        for what, name, number in of_documents:
            if name is not None and number in self.encode_batch([f"x{name} {name}"])[0]:
                key = f"tokenizer.{'end' if what == 'end' else 'beginning'}_of_document"
                others = [other for other in self.special_names() if other != name]
                advice = (
                    f"set {key} to a special token, such as {', '.join(others[:3])}" if others else "add a special token to it for that"
                )
                raise CorpusError(
                    f"{self.metadata.path}: a literal {name!r} in a document would {what} it, for the tokenizer treats this token as"
                    f" ordinary text; {advice}"
                )


def found_id(number: int | None, name: str | None, path: Path) -> int:
    """Return the id of the end-of-document token, or raise CorpusError when the vocabulary lacks it."""
    if number is not None:
        return number
    if name is not None:
        raise CorpusError(f"{path}: no token {name!r} in its vocabulary; set tokenizer.end_of_document to one it has")
    usual = ", ".join(END_OF_DOCUMENT_NAMES)
    raise CorpusError(f"{path}: no end-of-document token: none of {usual}; name it in tokenizer.end_of_document")
