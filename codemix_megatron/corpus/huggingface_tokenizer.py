"""A tokenizer.json, or what can be written as one, read by Hugging Face's library `tokenizers`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.document_tokenizer import END_OF_DOCUMENT_NAMES, NONE_ASKED, DocumentTokenizer, SpecialTokens, found_id
from codemix_megatron.corpus.ranked_tokenizers import tokenizer_json_of
from codemix_megatron.corpus.special_tokens import configured_end, highest_model_id, mark_special, unknown_to
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import TokenizerMetadata

__all__ = ["HuggingFaceTokenizer"]


class HuggingFaceTokenizer(DocumentTokenizer):
    """A tokenizer.json, read by the library `tokenizers`; `model` is its content, where there is no such file.

    With `adds_special_tokens`, texts get what the file's post-processor adds to each, such as a first token.
    """

    def __init__(
        self, path: Path, special: SpecialTokens = NONE_ASKED, *, model: bytes | None = None, adds_special_tokens: bool = False
    ):  # fmt: skip
        self.adds_special_tokens = adds_special_tokens
        try:
            data = path.read_bytes() if model is None else model
            stored = data if model is not None else tokenizer_json_of(data, path) or data
            self.model_bytes, plain = mark_special(stored, special.in_documents, path)
            self.tokenizer = load_plain(self.model_bytes)
        except OSError as fault:
            raise CorpusError(f"{path}: cannot be read ({fault.strerror}); check the file and its permissions") from None
        except CorpusError:
            raise
        except Exception as fault:  # the library raises bare Exceptions
            raise CorpusError(f"{path}: not Hugging Face's tokenizer.json ({fault}); give one, or a sentencepiece .model") from None
        self.unknown = unknown_to(plain)
        name = special.end_of_document or self.end_of_settings(path) or self.usual_end_of_document()
        self.metadata = TokenizerMetadata(
            type="huggingface",
            path=str(path),
            sha256=hashlib.sha256(data).hexdigest(),
            vocab_size=1 + max([highest_model_id(plain), *self.tokenizer.get_added_tokens_decoder()]),
            end_of_document_id=found_id(self.tokenizer.token_to_id(name) if name else None, name, path),
            beginning_of_document_id=self.beginning_id(special.beginning_of_document, path),
            tokens_in_documents=list(special.in_documents),
        )
        self.check_literals(name, special.beginning_of_document)

    def __getstate__(self):
        return {**self.__dict__, "tokenizer": None}

    def __setstate__(self, state):
        self.__dict__ = {**state, "tokenizer": load_plain(state["model_bytes"])}  # its own pickling forgets encode_special_tokens

    def special_names(self) -> list[str]:
        """Return the names of the special tokens."""
        return [token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special]

    def token_id(self, name: str) -> int | None:
        """Return the id of a token by its name."""
        return self.tokenizer.token_to_id(name)

    def end_of_settings(self, path: Path) -> str | None:
        """Return the end token that the settings beside the file name, as Megatron takes it; raises CorpusError when it has no such token."""
        name = configured_end(path)
        if name is not None and self.tokenizer.token_to_id(name) is None:
            raise CorpusError(
                f"{path}: the settings beside it name {name!r} as eos_token, which its vocabulary lacks; correct eos_token there, or name"
                " another end in tokenizer.end_of_document"
            )
        return name

    def usual_end_of_document(self) -> str | None:
        """Return the first usual name that the vocabulary has."""
        return next((name for name in END_OF_DOCUMENT_NAMES if self.tokenizer.token_to_id(name) is not None), None)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the int32 ids of each text, without any special token; uses all cores."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=self.adds_special_tokens)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def decode(self, ids) -> str:
        """Return the text of ids, special tokens spelled out."""
        return self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


def load_plain(model: bytes):
    """Return the library's tokenizer of a tokenizer.json, which cuts nothing, pads nothing and takes special tokens for text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(model)
    tokenizer.no_truncation()  # some files carry the settings of their last use
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer
