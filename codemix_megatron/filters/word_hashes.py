"""Hashes of the words of a text and of its n-grams, at numpy's speed: what shingles and n-grams are made of.

A word is a run of letters, digits, underscores and non-ASCII characters, in lower case; everything else parts words,
so that punctuation, line wraps and indentation make no difference. Of scripts that write no spaces between words (Chinese, Japanese,
Thai, Lao, Khmer, Burmese, Tibetan) each character is a word.
"""

import re

import numpy as np

__all__ = ["normalized", "run_hashes", "word_hashes"]

BLOCK_BYTES = 1 << 16  # work arrays stay in the cache
RUN_WORDS, LONGEST_RUN = 1 << 14, 64
PRIME = 0x9E3779B1
RUN_PRIME = 0xD6E8FEB86659FD93
SEPARATORS = "\u00a0\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u3000\u3001\u3002"
SPACE = 32
# byte -> lower-cased byte of a word, or a space
LOWER = bytes(b if b >= 128 else ord(chr(b).lower()) if chr(b).isalnum() or chr(b) == "_" else SPACE for b in range(256))


# Blocks of scripts without spaces: Thai and Lao, Tibetan, Burmese, Khmer, kana, ideographs.
SPACELESS = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip
HAS_SPACELESS = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in SPACELESS)}]")


def powers(base: int, count: int, dtype) -> np.ndarray:
    """Return base ** i for i below `count`, modulo the size of the dtype."""
    return np.concatenate([np.ones(1, dtype), np.cumprod(np.full(count - 1, base, dtype), dtype=dtype)])


POWERS, INVERSE_POWERS = (powers(base, BLOCK_BYTES + 2, np.uint32) for base in (PRIME, pow(PRIME, -1, 1 << 32)))
RUN_POWERS, INVERSE_RUN_POWERS = (powers(base, RUN_WORDS + LONGEST_RUN, np.uint64) for base in (RUN_PRIME, pow(RUN_PRIME, -1, 1 << 64)))


def normalized(text: str) -> bytes:
    """Return the words of a text in lower case, with spaces between; `split` gives what `word_hashes` hashes."""
    if not text.isascii():
        text = text.lower()
        for separator in SEPARATORS:
            text = text.replace(separator, " ")
        if HAS_SPACELESS.search(text):
            text = apart(text)
    return text.encode("utf-8", "surrogatepass").translate(LOWER)


def apart(text: str) -> str:
    """Return the text with a space before and behind each character of a script without spaces."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    alone = np.zeros(len(points), dtype=bool)
    for first, last in SPACELESS:
        alone |= (points >= first) & (points <= last)
    widths = 1 + 2 * alone
    spaced = np.full(int(widths.sum()), SPACE, dtype=np.uint32)
    spaced[np.cumsum(widths) - widths + alone] = points
    return spaced.tobytes().decode("utf-32-le", "surrogatepass")


def word_hashes(text: str) -> np.ndarray:
    """Return uint64 [words], the hash of each word in order."""
    data = normalized(text)
    if len(data) <= BLOCK_BYTES:
        return block_hashes(data)
    found, begin = [], 0
    while begin < len(data):
        end = begin + BLOCK_BYTES
        # Behind the last separator of the block; a word longer than a block is cut.
        end = len(data) if end >= len(data) else data.rfind(b" ", begin, end) + 1 or end
        found.append(block_hashes(data[begin:end]))
        begin = end
    return np.concatenate(found)


def block_hashes(data: bytes) -> np.ndarray:
    """Hash the words of one block: differences of a running polynomial, shifted back to the word's beginning."""
    characters = np.frombuffer(b" %b " % data, np.uint8)
    is_space = characters == SPACE
    edges = np.flatnonzero(is_space[1:] != is_space[:-1])  # before the first and before behind the last character of a word
    starts, ends = edges[0::2], edges[1::2]
    sums = np.cumsum(characters * POWERS[: len(characters)], dtype=np.uint32)
    return mixed(((sums[ends] - sums[starts]) * INVERSE_POWERS[starts]).astype(np.uint64))


def run_hashes(words: np.ndarray, length: int) -> np.ndarray:
    """Return uint64 [words - length + 1], the hash of each run of `length` words; nothing for fewer words."""
    blocks = [block_runs(words[begin : begin + RUN_WORDS + length - 1], length) for begin in range(0, len(words) - length + 1, RUN_WORDS)]
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros(0, np.uint64), *blocks])


def block_runs(words: np.ndarray, length: int) -> np.ndarray:
    """Hash the runs of one block, as differences of a running polynomial."""
    sums = np.zeros(len(words) + 1, dtype=np.uint64)
    np.cumsum(words * RUN_POWERS[: len(words)], out=sums[1:])
    count = len(words) - length + 1
    return mixed((sums[length:] - sums[:count]) * INVERSE_RUN_POWERS[:count])


def mixed(values: np.ndarray) -> np.ndarray:
    """Spread hashes over all 64 bits (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
