"""A keyed bijection on [0, n): the order of one epoch without a table.

A balanced Feistel network over the next even number of bits, walked until the value falls below n
(Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). The domain is at most four times n,
so four walks are the expected worst case.
"""

import hashlib

import numpy as np

__all__ = ["epoch_keys", "half_bits", "permute", "source_key"]

# Four rounds of a good hash make a Feistel network as good as random for this use (Luby & Rackoff 1988).
ROUND_CONSTANTS = np.array([0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB], dtype=np.uint64)


def mix(value: np.ndarray) -> np.ndarray:
    """Return splitmix64's finaliser of uint64 values (Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def source_key(seed: int, source: str) -> np.uint64:
    """Return the key of a source; sources of the same name share their order between recipes."""
    return np.uint64(int.from_bytes(hashlib.blake2b(f"{seed}/{source}".encode(), digest_size=8).digest(), "little"))


def epoch_keys(source_keys: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Return one uint64 key for each pair of source key and epoch."""
    with np.errstate(over="ignore"):
        return mix(source_keys + (np.asarray(epochs).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


def half_bits(sizes: np.ndarray) -> np.ndarray:
    """Return half the bits, rounded up, that hold the positions [0, size); at least one."""
    bits = [max(2, int(size - 1).bit_length()) for size in sizes]
    return (np.asarray(bits, dtype=np.uint64) + np.uint64(1)) // np.uint64(2)


def permute(positions: np.ndarray, sizes: np.ndarray, halves: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return where each position in [0, size) goes under its key; `halves` is half_bits(sizes)."""
    sizes = sizes.astype(np.uint64)
    result = feistel(positions.astype(np.uint64), keys, halves)
    outside = np.flatnonzero(result >= sizes)
    while len(outside):
        result[outside] = feistel(result[outside], keys[outside], halves[outside])
        outside = outside[result[outside] >= sizes[outside]]
    return result.astype(np.int64)


def feistel(value: np.ndarray, keys: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Run the network once over values of 2 x half bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & mask
    with np.errstate(over="ignore"):
        for constant in ROUND_CONSTANTS:
            noise = (right ^ keys) * constant
            noise ^= noise >> np.uint64(32)
            noise *= np.uint64(0xBF58476D1CE4E5B9)
            noise >>= np.uint64(31)  # the high bits are the well mixed ones; halves have at most 31 of them
            left, right = right, left ^ (noise & mask)
    return (left << half) | right
