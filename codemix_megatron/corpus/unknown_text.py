"""Bytes and characters a tokenizer has no token for: what its library drops, or replaces by one token for all that is unknown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["NO_TOKENS", "UnknownText"]

NO_TOKENS = "no token for any of its characters"


@dataclass(frozen=True)
class UnknownText:
    """What is unknown to a tokenizer: bytes without a token, which are dropped, or the id that stands for all that is unknown."""

    missing_bytes: bytes = b""
    unknown_id: int | None = None

    def count(self, texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray, *, is_plain: bool = False) -> np.ndarray:
        """Return for each text how much of it is lost: bytes without a token, or positions at which the unknown id stands.

        Texts that are plain (see `Encoder.is_plain`) are known to have no byte without a token.
        """
        counted = np.zeros(len(texts), dtype=np.int64)
        if self.missing_bytes and not is_plain:
            counted += self.lost_bytes(texts)
        if self.unknown_id is not None:
            is_unknown = ids == self.unknown_id
            if is_unknown.any():
                counted += np.diff(np.concatenate([[0], np.cumsum(is_unknown)])[np.concatenate([[0], np.cumsum(lengths)])])
        return counted

    def lost_bytes(self, texts: Sequence[str]) -> np.ndarray:
        """Return how many bytes without a token each text holds."""
        counted = np.zeros(len(texts), dtype=np.int64)
        together = "".join(texts)
        plain = [chr(byte) for byte in self.missing_bytes if byte < 128 and chr(byte) in together]
        others = [bytes([byte]) for byte in self.missing_bytes if byte >= 128]
        if plain:
            counted += [sum(text.count(character) for character in plain) for text in texts]
        if others and not together.isascii():
            counted += [0 if text.isascii() else sum(text.encode().count(byte) for byte in others) for text in texts]
        return counted
