"""Documents of a corpus as the bytes of their text, fast.

Of a byte-level BPE every token stands for bytes, so that a document is a gather out of one table: 80 MB per CPU-second, where the library's
own decoding does 7. Some documents are decoded by the library too; where one differs, it decodes all.
"""

from collections.abc import Sequence

import numpy as np

from codemix_megatron.corpus.tokenizers import DocumentTokenizer, HuggingFaceTokenizer

__all__ = ["DocumentBytes"]

COMPARED = 4  # documents of each call


class DocumentBytes:
    """Turns ids into UTF-8 bytes, as the tokenizer does."""

    def __init__(self, tokenizer: DocumentTokenizer):
        self.tokenizer = tokenizer
        table = byte_table(tokenizer)
        self.is_table = table is not None
        if table is not None:
            self.lengths = np.array([len(piece) for piece in table], dtype=np.int32)
            self.starts = (np.cumsum(self.lengths) - self.lengths).astype(np.int32)
            self.pool = np.frombuffer(b"".join(table), dtype=np.uint8)

    def texts(self, documents: Sequence[np.ndarray]) -> list[bytes]:
        """Return the text of each document, which holds its ids without those that begin and end it."""
        if self.is_table:
            found = [self.gathered(ids) for ids in documents]
            if all(found[i] == self.decoded(documents[i]) for i in range(0, len(found), max(1, len(found) // COMPARED))):
                return found
            self.is_table = False
        return [self.decoded(ids) for ids in documents]

    def gathered(self, ids: np.ndarray) -> bytes:
        """Return the bytes of a document by the table."""
        if not len(ids):
            return b""
        lengths = self.lengths[ids]
        ends = np.cumsum(lengths, dtype=np.int32)
        return self.pool[np.arange(ends[-1], dtype=np.int32) + np.repeat(self.starts[ids] - (ends - lengths), lengths)].tobytes()

    def decoded(self, ids: np.ndarray) -> bytes:
        """Return the bytes of a document by the library."""
        return self.tokenizer.decode(ids).encode("utf-8", "replace")


def byte_table(tokenizer: DocumentTokenizer) -> list[bytes] | None:
    """Return the bytes of every id of a byte-level BPE; None for another kind."""
    from tokenizers import decoders

    if not isinstance(tokenizer, HuggingFaceTokenizer) or not isinstance(tokenizer.tokenizer.decoder, decoders.ByteLevel):
        return None
    of_character, added = byte_of_character(), tokenizer.tokenizer.get_added_tokens_decoder()
    table = []
    for number in range(tokenizer.vocab_size):
        name = tokenizer.tokenizer.id_to_token(number) or ""
        is_text = number not in added and all(character in of_character for character in name)
        table.append(bytes(of_character[c] for c in name) if is_text else name.encode())
    return table


def byte_of_character() -> dict[str, int]:
    """Return GPT-2's names of bytes: printable ones stand for themselves, the others for characters from 256 on."""
    named = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in named]
    return {**{chr(byte): byte for byte in named}, **{chr(256 + i): byte for i, byte in enumerate(others)}}
