"""Texts to token ids, many at a time and as one array: the libraries that define the ids, and fast ones.

`tokenizers` and `sentencepiece` say what is right. fastokens (for tokenizer.json) and kitoken (for .model) give the
same ids 30 and 3 times faster, where `encoder_choice` and `character_proof` find them equal.
"""

import functools
import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from codemix_megatron.corpus.tokenizers import DocumentTokenizer, HuggingFaceTokenizer, SentencePieceTokenizer

__all__ = [
    "FAST_ENCODERS", "PROBES", "Encoder", "FastokensEncoder", "KitokenEncoder", "ReferenceEncoder", "fast_encoder", "library_versions", "missing_fast",
]  # fmt: skip


# Texts every fast library has to get right besides the sample: what tokenizers differ on.
PROBES = (
    " leading and trailing ", "\n\n\tif x:\n\t\treturn  1\r\n", "1234567890 3.14 0x1F", "naïve Grüße 你好 👩‍👩‍👧 \u00a0\u200b\ufeff",
    "don't I'LL we've", "a" * 3000, "\0\x01\x7f", "<s> </s> <unk> <pad> [INST] ▁x ▁▁", "=" * 100 + "\n" * 50 + " " * 70 + "x",
)  # fmt: skip


REFERENCE_LIBRARIES = {"huggingface": "tokenizers", "sentencepiece": "sentencepiece"}  # by type of tokenizer


class Encoder(ABC):
    """Encodes batches of texts; whatever stands in them is text. May be pickled."""

    name: str
    is_plain = False  # whether the last texts held nothing that a tokenizer may lack bytes for

    def begin_part(self) -> None:  # noqa: B027 - most encoders count nothing
        """Begin to count for a part."""

    def findings(self) -> tuple[int, list[str]]:
        """Return (documents of a part given to the reference, its characters on which a fast library differs); none of an only encoder."""
        return 0, []

    @abstractmethod
    def encode_flat(self, texts: Sequence[str], utf8: Sequence[bytes] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts end to end, and the number of ids of each text (int64); `utf8` are the same texts, where known."""


class ReferenceEncoder(Encoder):
    """The library that defines the ids."""

    def __init__(self, tokenizer: DocumentTokenizer):
        self.tokenizer = tokenizer
        self.name = installed(REFERENCE_LIBRARIES[tokenizer.metadata.type])

    def encode_flat(self, texts: Sequence[str], utf8: Sequence[bytes] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts end to end, and the number of ids of each text."""
        encoded = self.tokenizer.encode_batch(texts)
        return np.concatenate([np.empty(0, np.int32), *encoded]), np.array([len(ids) for ids in encoded], dtype=np.int64)


class LoadedWhenUsed(Encoder):
    """A fast library's encoder, which is pickled as the file it is made from."""

    library: str

    def __init__(self, tokenizer: DocumentTokenizer):
        self.source = tokenizer.model_bytes
        self.adds_special_tokens = getattr(tokenizer, "adds_special_tokens", False)
        self.name = installed(self.library)
        self.loaded: Any = None

    def __getstate__(self):
        return {**self.__dict__, "loaded": None}

    def encode_flat(self, texts: Sequence[str], utf8: Sequence[bytes] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts end to end, and the number of ids of each text."""
        if self.loaded is None:
            self.loaded = self.load()
        return self.encode(texts)

    @abstractmethod
    def load(self):
        """Return the library's object."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode with what was loaded."""


class FastokensEncoder(LoadedWhenUsed):
    """A tokenizer.json, read by fastokens; uses all threads of RAYON_NUM_THREADS."""

    library = "fastokens"

    def load(self):
        """Return the library's tokenizer, which neither cuts nor pads."""
        from fastokens._native import Tokenizer  # the one with flat output; the package's own imitates `tokenizers`

        tokenizer = Tokenizer.from_json_str(self.source.decode())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode with the special tokens the reference adds; those spelled out in a text are text."""
        ids, offsets = self.loaded.encode_batch_flat(list(texts), self.adds_special_tokens, True)
        return np.frombuffer(ids, dtype="<u4"), np.diff(np.frombuffer(offsets, dtype="<u8").astype(np.int64))


class KitokenEncoder(LoadedWhenUsed):
    """A sentencepiece .model, read by kitoken; one thread."""

    library = "kitoken"

    def load(self):
        """Return the library's tokenizer."""
        from kitoken import Kitoken

        return Kitoken.from_sentencepiece(self.source)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode without special tokens, those spelled out in a text included."""
        encoded = [np.array(self.loaded.encode(text, False), dtype=np.uint32) for text in texts]
        return np.concatenate([np.empty(0, np.uint32), *encoded]), np.array([len(ids) for ids in encoded], dtype=np.int64)


FAST_ENCODERS = {HuggingFaceTokenizer: FastokensEncoder, SentencePieceTokenizer: KitokenEncoder}


def installed(library: str) -> str:
    """Return the name and the version of an installed library."""
    return f"{library} {importlib.metadata.version(library)}"


def library_versions(tokenizer: DocumentTokenizer) -> list[str]:
    """Return the libraries that may make the ids of a tokenizer, that which defines them first."""
    fast = FAST_ENCODERS.get(type(tokenizer))
    may_be_fast = fast is not None and missing_fast(tokenizer) is None
    return [installed(REFERENCE_LIBRARIES[tokenizer.metadata.type]), *([installed(fast.library)] if fast and may_be_fast else [])]


def missing_fast(tokenizer: DocumentTokenizer) -> str | None:
    """Say that a tokenizer's fast library is missing, where it is: a small installation does without."""
    library = FAST_ENCODERS[type(tokenizer)].library
    return None if importlib.util.find_spec(library) else f"{library} is not installed: pip install 'codemix_megatron[fast]'"


@functools.lru_cache(maxsize=1)  # all corpora of a recipe have one tokenizer, and loading takes half a second
def fast_encoder(tokenizer: DocumentTokenizer) -> LoadedWhenUsed:
    """Return the fast encoder for a tokenizer."""
    return FAST_ENCODERS[type(tokenizer)](tokenizer)
