"""PREFIX.loss_mask.bin: a bit for each token of a corpus, packed as it is written, with its checksum. See mixture.loss_masks."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from codemix_megatron.records.atomic import writing
from codemix_megatron.records.manifest import CorpusManifest, loss_mask_path

__all__ = ["count_learned_bits", "kept_bits", "read_bits", "write_loss_mask"]

BLOCK_BYTES = 1 << 20


def write_loss_mask(prefix: str, blocks: Iterable[np.ndarray]) -> str:
    """Write the bits of all tokens, in blocks of any length (0 or 1 for each token), and return the file's checksum."""
    digest, left = hashlib.sha256(), np.empty(0, dtype=np.uint8)
    with writing(loss_mask_path(prefix), "wb") as handle:
        for block in blocks:
            left = np.concatenate([left, block.astype(np.uint8)])
            whole = len(left) // 8 * 8
            data = np.packbits(left[:whole], bitorder="little").tobytes()
            handle.write(data)
            digest.update(data)
            left = left[whole:]
        data = np.packbits(left, bitorder="little").tobytes()
        handle.write(data)
        digest.update(data)
    return digest.hexdigest()


def read_bits(manifest: CorpusManifest) -> Iterator[np.ndarray]:
    """Yield the bits of a corpus in its order, uint8, a block at a time."""
    left = manifest.num_tokens
    with open(Path(loss_mask_path(manifest.prefix)), "rb") as handle:
        while left > 0 and (data := handle.read(BLOCK_BYTES)):
            bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")[:left]
            left -= len(bits)
            yield bits


def kept_bits(manifest: CorpusManifest, lengths: np.ndarray, kept: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the bits of the documents that are kept, of all of these lengths."""
    ends, begin = np.cumsum(lengths, dtype=np.int64), 0
    for bits in read_bits(manifest):
        document = np.searchsorted(ends, np.arange(begin, begin + len(bits)), side="right")
        yield bits[kept[document]]
        begin += len(bits)


def count_learned_bits(manifest: CorpusManifest) -> int:
    """Return how many of the tokens trained on are learned."""
    counted, left = 0, manifest.train_tokens
    for bits in read_bits(manifest):
        counted += int(bits[: max(0, left)].sum(dtype=np.int64))
        left -= len(bits)
    return counted
