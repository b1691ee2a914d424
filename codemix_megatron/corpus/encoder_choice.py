"""Which encoder makes the ids of a corpus: a fast one, compared with the reference on a sample first, or the reference."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codemix_megatron.corpus.character_proof import COMMON, ProvenEncoder
from codemix_megatron.corpus.encoders import FAST_ENCODERS, PROBES, Encoder, ReferenceEncoder, fast_encoder, missing_fast
from codemix_megatron.corpus.tokenizers import DocumentTokenizer
from codemix_megatron.readers.documents import BadDocument, InputFile
from codemix_megatron.records.manifest import EncoderMetadata

__all__ = ["choose_encoder", "sample_for_proof"]

SMALLEST_FOR_FAST_BYTES = 1 << 20  # below it the reference is done before a second library is loaded
SAMPLED_PIECES = 16
SAMPLED_BYTES = 128 << 10  # the reference takes 0.1 seconds for it


def choose_encoder(tokenizer: DocumentTokenizer, sample: Sequence[str]) -> tuple[Encoder, EncoderMetadata]:
    """Return the fast encoder when it gives the reference's ids for all of `sample`, else the reference; and what was found.

    The fast one is proved character by character as it meets them, and leaves to the reference what it differs on. An empty sample asks
    for the reference: a corpus so small that loading a second library would cost more than it saves.
    """
    reference = ReferenceEncoder(tokenizer)
    slow = EncoderMetadata(library=reference.name, reference=reference.name)
    if not sample or type(tokenizer) not in FAST_ENCODERS:
        return reference, slow
    if (missing := missing_fast(tokenizer)) is not None:
        return reference, replace(slow, refused=missing)
    try:
        fast = fast_encoder(tokenizer)
        fast.encode_flat(["x"])
        proven = ProvenEncoder(fast, reference, tokenizer.unknown.missing_bytes)
        different = common_difference(proven) or first_difference(proven, reference, [*sample, *PROBES, *tokenizer.special_names()])
        proven.begin_part()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as fault:  # whatever a library says about a file it does not know; Rust's panics are no Exceptions
        return reference, replace(slow, refused=f"{FAST_ENCODERS[type(tokenizer)].library}: {fault}"[:300])
    checked: dict[str, Any] = {"checked_texts": len(sample), "checked_bytes": sum(len(text.encode()) for text in sample)}
    if different is not None:
        return reference, replace(slow, refused=f"{fast.name} gives other ids for {different[:60]!r}", **checked)
    return proven, replace(slow, library=fast.name, **checked)


def common_difference(proven: ProvenEncoder) -> str | None:
    """Return a character of every text that the encoders differ on, or None."""
    return min(proven.proof.differing & COMMON, default=None)


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
    pieces = [piece for file in inputs for piece in file.divide(total // SAMPLED_PIECES)]
    chosen = pieces[:: -(-len(pieces) // SAMPLED_PIECES)]
    return [text for piece in chosen for text in first_texts(piece, SAMPLED_BYTES // len(chosen))]


def first_texts(file: InputFile, num_characters: int) -> list[str]:
    """Return the first texts of a file, the last of them cut."""
    texts: list[str] = []
    for document in file.read():
        if not isinstance(document, BadDocument):
            texts.append(document.text[:num_characters])
            num_characters -= len(texts[-1])
            if num_characters <= 0:
                break
    return texts
