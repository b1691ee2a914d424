"""A sentencepiece .model, read by the library of that name."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.document_tokenizer import END_OF_DOCUMENT_NAMES, NONE_ASKED, DocumentTokenizer, SpecialTokens, found_id
from codemix_megatron.corpus.unknown_text import UnknownText
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import TokenizerMetadata

__all__ = ["SentencePieceTokenizer"]


class SentencePieceTokenizer(DocumentTokenizer):
    """A .model, read by the library `sentencepiece`."""

    def __init__(self, path: Path, special: SpecialTokens = NONE_ASKED):
        from sentencepiece import SentencePieceProcessor

        try:
            data = self.model_bytes = path.read_bytes()
            self.processor = SentencePieceProcessor(model_proto=data or b"empty")  # it takes no bytes for no model yet
        except OSError as fault:
            raise CorpusError(f"{path}: cannot be read ({fault.strerror}); check the file and its permissions") from None
        except (RuntimeError, ValueError) as fault:
            raise CorpusError(f"{path}: not a sentencepiece model ({fault}); give a .model or a tokenizer.json") from None
        by_bytes = self.processor.piece_to_id("<0x00>") != self.processor.unk_id()
        self.unknown = UnknownText() if by_bytes else UnknownText(unknown_id=self.processor.unk_id())
        if special.in_documents:
            raise CorpusError(
                f"tokenizer.tokens_in_documents: {path} is a sentencepiece model, whose own symbols stand in documents as they are"
            )
        name, number = self.find_end_of_document(special.end_of_document)
        self.metadata = TokenizerMetadata(
            type="sentencepiece",
            path=str(path),
            sha256=hashlib.sha256(data).hexdigest(),
            vocab_size=self.processor.vocab_size(),
            end_of_document_id=found_id(number, name, path),
            beginning_of_document_id=self.beginning_id(special.beginning_of_document, path),
        )
        self.check_literals(name, special.beginning_of_document)

    def special_names(self) -> list[str]:
        """Return the names of the control tokens."""
        return [self.processor.id_to_piece(i) for i in range(self.vocab_size) if self.processor.is_control(i)]

    def token_id(self, name: str) -> int | None:
        """Return the id of a piece by its name."""
        number = self.processor.piece_to_id(name)
        return None if number == self.processor.unk_id() else number

    def find_end_of_document(self, asked: str | None) -> tuple[str | None, int | None]:
        """Return name and id of the piece asked for, else of the model's end of sentence or a usual name."""
        eos = self.processor.eos_id()
        if asked is None and eos >= 0:
            return self.processor.id_to_piece(eos), eos
        for name in [asked] if asked else END_OF_DOCUMENT_NAMES:
            number = self.processor.piece_to_id(name)
            if self.processor.id_to_piece(number) == name:
                return name, number
        return asked, None

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the int32 ids of each text, without any special token; uses all cores."""
        return [np.array(ids, dtype=np.int32) for ids in self.processor.encode(list(texts), num_threads=-1)]

    def decode(self, ids) -> str:
        """Return the text of ids; sentencepiece leaves control tokens out."""
        return self.processor.decode([int(i) for i in ids])
