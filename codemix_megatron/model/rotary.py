"""Stretched rotary frequencies; megatron-core has Llama 3's with one set of factors only."""

import math

import torch

from codemix_megatron.recipe.schema import RopeScaling

__all__ = ["scaled_frequencies"]


def scaled_frequencies(frequencies: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Return the inverse frequencies [head size / 2] of a model with a longer context.

    Llama 3.1 (Meta's reference code, `apply_scaling`): waves that fit the original context often are kept, those longer
    than it are stretched by the factor, and between the two the change is linear in the number of waves that fit.
    """
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    assert low is not None and high is not None and scaling.original_sequence_length is not None, "rope_scaling_faults refuses it"
    waves = scaling.original_sequence_length * frequencies / (2 * math.pi)
    kept = ((waves - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies
