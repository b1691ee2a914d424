"""Texts to token ids, many at a time and as one array: fast libraries, proved equal to the reference before they are used.

`tokenizers` and `sentencepiece` say what is right. fastokens (for tokenizer.json) and kitoken (for .model) give the
same ids 30 and 3 times faster; a sample of every corpus shows whether they do so there, else the reference is used.
"""

import functools
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codemix_megatron.corpus.tokenizers import DocumentTokenizer, HuggingFaceTokenizer, SentencePieceTokenizer
from codemix_megatron.readers.documents import BadDocument, InputFile
from codemix_megatron.records.manifest import EncoderCard

__all__ = ["Encoder", "FastokensEncoder", "KitokenEncoder", "ReferenceEncoder", "choose_encoder", "library_versions", "sample_for_proof"]

SMALLEST_FOR_FAST_BYTES = 1 << 20  # below it the reference is done before a second library is loaded
SAMPLED_PLACES = 16
SAMPLED_BYTES = 128 << 10  # the reference takes 0.1 seconds for it

# Texts every fast library has to get right besides the sample: what tokenizers differ on.
PROBES = (
    " leading and trailing ", "\n\n\tif x:\n\t\treturn  1\r\n", "1234567890 3.14 0x1F", "naïve Grüße 你好 👩‍👩‍👧 \u00a0\u200b\ufeff",
    "don't I'LL we've", "a" * 3000, "\0\x01\x7f", "<s> </s> <unk> <pad> [INST] ▁x ▁▁", "=" * 100 + "\n" * 50 + " " * 70 + "x",
)  # fmt: skip


REFERENCE_LIBRARIES = {"huggingface": "tokenizers", "sentencepiece": "sentencepiece"}  # by type of tokenizer


class Encoder(ABC):
    """Encodes batches of texts; whatever stands in them is text. May be pickled."""

    name: str

    @abstractmethod
    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts end to end, and the number of ids of each text (int64)."""


class ReferenceEncoder(Encoder):
    """The library that defines the ids."""

    def __init__(self, tokenizer: DocumentTokenizer):
        self.tokenizer = tokenizer
        self.name = installed(REFERENCE_LIBRARIES[tokenizer.card.type])

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
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
        self.loaded = None

    def __getstate__(self):
        return {**self.__dict__, "loaded": None}

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
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
    return [installed(REFERENCE_LIBRARIES[tokenizer.card.type]), *([installed(fast.library)] if fast else [])]


def choose_encoder(tokenizer: DocumentTokenizer, sample: Sequence[str]) -> tuple[Encoder, EncoderCard]:
    """Return the fast encoder when it gives the reference's ids for all of `sample`, else the reference; and what was found.

    An empty sample asks for the reference: a corpus so small that loading a second library would cost more than it saves.
    """
    reference = ReferenceEncoder(tokenizer)
    slow = EncoderCard(library=reference.name, reference=reference.name)
    if not sample or type(tokenizer) not in FAST_ENCODERS:
        return reference, slow
    try:
        fast = fast_encoder(tokenizer)
        different = first_difference(fast, reference, [*sample, *PROBES, *tokenizer.special_names()])
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as fault:  # whatever a library says about a file it does not know; Rust's panics are no Exceptions
        return reference, replace(slow, refused=f"{FAST_ENCODERS[type(tokenizer)].library}: {fault}"[:300])
    checked = {"checked_texts": len(sample), "checked_bytes": sum(len(text.encode()) for text in sample)}
    if different is not None:
        return reference, replace(slow, refused=f"{fast.name} gives other ids for {different[:60]!r}", **checked)
    return fast, replace(slow, library=fast.name, **checked)


@functools.lru_cache(maxsize=1)  # all corpora of a recipe have one tokenizer, and loading takes half a second
def fast_encoder(tokenizer: DocumentTokenizer) -> LoadedWhenUsed:
    """Return the fast encoder for a tokenizer."""
    return FAST_ENCODERS[type(tokenizer)](tokenizer)


def first_difference(one: Encoder, other: Encoder, texts: Sequence[str]) -> str | None:
    """Return the first text both do not encode alike, or None."""
    (ids, lengths), (wanted_ids, wanted_lengths) = one.encode_flat(texts), other.encode_flat(texts)
    if np.array_equal(ids, wanted_ids) and np.array_equal(lengths, wanted_lengths):
        return None
    found, wanted = (np.split(all_ids, np.cumsum(sizes)[:-1]) for all_ids, sizes in ((ids, lengths), (wanted_ids, wanted_lengths)))
    return next(text for text, a, b in zip(texts, found, wanted, strict=True) if not np.array_equal(a, b))


def sample_for_proof(inputs: Sequence[InputFile]) -> list[str]:
    """Return beginnings of texts from all over a corpus, the same for the same inputs; nothing of a small corpus."""
    total = sum(file.num_bytes for file in inputs)
    if total < SMALLEST_FOR_FAST_BYTES:
        return []
    pieces = [piece for file in inputs for piece in file.divide(total // SAMPLED_PLACES)]
    chosen = pieces[:: -(-len(pieces) // SAMPLED_PLACES)]
    return [text for piece in chosen for text in first_texts(piece, SAMPLED_BYTES // len(chosen))]


def first_texts(file: InputFile, num_characters: int) -> list[str]:
    """Return the first texts of a file, the last of them cut."""
    texts = []
    for document in file.read():
        if not isinstance(document, BadDocument):
            texts.append(document.text[:num_characters])
            num_characters -= len(texts[-1])
            if num_characters <= 0:
                break
    return texts
