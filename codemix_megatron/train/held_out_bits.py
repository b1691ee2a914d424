"""Held-out losses in bits per byte of text."""

import math
from collections.abc import Mapping

from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["held_out_bits"]


def held_out_bits(losses: Mapping[str, float], manifests: Mapping[str, CorpusManifest]) -> dict[str, float]:
    """Return source -> bits per byte of its held-out text, from nats per token.

    A corpus with a loss mask has none: its losses are those of what is learned alone, its bytes those of everything.
    """
    bits = {}
    for name, loss in losses.items():
        manifest = manifests[name]
        if not manifest.loss_mask_sha256:
            bits[name] = loss / math.log(2) * manifest.held_out_tokens / max(1, manifest.held_out_bytes)
    return bits
