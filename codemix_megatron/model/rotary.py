"""Stretched rotary frequencies, and those of layers that rotate by another base; megatron-core has Llama 3's with one set of factors only."""

import math
from typing import Any

import torch

from codemix_megatron.recipe.schema import Model, RopeScaling

__all__ = ["attention_scale", "frequencies", "rotary_magnitude", "scaled_frequencies", "set_frequencies"]


def set_frequencies(rotary: Any, model: Model) -> None:
    """Have megatron-core's rotary positions turn by a model's frequencies; with longrope by one of two kinds, as long as a sequence is."""
    plain, scaling = rotary.inv_freq, model.rope_scaling
    if scaling is None or scaling.kind != "longrope":
        rotary.inv_freq = frequencies(plain, model)
        return
    first_context = scaling.original_sequence_length
    assert first_context is not None, "rope_scaling_faults refuses it"
    # Multiplied before the reciprocal, as transformers does: divided after it, logits would end 6e-5 from those of Hugging Face instead of 0.
    wavelengths = model.rope_base ** (torch.arange(0, 2 * len(plain), 2, dtype=torch.float32, device=plain.device) / (2 * len(plain)))
    factors = (torch.tensor(of, device=plain.device) for of in (scaling.short_factors, scaling.long_factors))
    short, long = (1.0 / (of * wavelengths) for of in factors)

    def choose(rotary, given) -> None:
        rotary.inv_freq = long if given[0] > first_context else short

    rotary.inv_freq = short
    rotary.register_forward_pre_hook(choose)


def frequencies(plain: torch.Tensor, model: Model) -> torch.Tensor:
    """Return a model's inverse frequencies of `plain` ones, [head size / 2]; with two bases, those of layers with a window behind the others'.

    See two_rotations.py for how a layer takes its own.
    """
    scaled = scaled_frequencies(plain, model.rope_scaling, model.rope_base) if model.rope_scaling else plain
    if model.window_rope_base is None:
        return scaled
    channels = torch.arange(0, 2 * len(plain), 2, dtype=torch.float32, device=plain.device)
    return torch.cat([scaled, 1.0 / model.window_rope_base ** (channels / (2 * len(plain)))])


def scaled_frequencies(frequencies: torch.Tensor, scaling: RopeScaling, base: float) -> torch.Tensor:
    """Return the inverse frequencies [head size / 2] of a model with a longer context.

    Llama 3.1 (Meta's reference code, `apply_scaling`): waves that fit the original context often are kept, those longer
    than it are stretched by the factor, and between the two the change is linear in the number of waves that fit.
    """
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "yarn":
        return ramped_frequencies(frequencies, scaling, base)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    assert low is not None and high is not None and scaling.original_sequence_length is not None, "rope_scaling_faults refuses it"
    waves = scaling.original_sequence_length * frequencies / (2 * math.pi)
    kept = ((waves - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


def ramped_frequencies(frequencies: torch.Tensor, scaling: RopeScaling, base: float) -> torch.Tensor:
    """Return YaRN's frequencies (Peng et al. 2023, section 3.2), its ramp between whole channels as in all published models."""
    channels, original = 2 * len(frequencies), scaling.original_sequence_length
    assert original is not None, "rope_scaling_faults refuses it"

    def channel(rotations: float) -> float:
        return channels * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(channel(scaling.fast_rotations or 32.0)), 0)
    high = min(math.ceil(channel(scaling.slow_rotations or 1.0)), channels - 1)
    ramp = (torch.arange(len(frequencies), dtype=torch.float32, device=frequencies.device) - low) / max(high - low, 0.001)
    divided = ramp.clamp(0, 1)
    return frequencies / scaling.factor * divided + frequencies * (1 - divided)


def attention_factor(scaling: RopeScaling | None) -> float:
    """Return what YaRN and longrope multiply rotated queries and keys by."""
    if scaling is None or scaling.kind not in ("yarn", "longrope"):
        return 1.0
    if scaling.kind == "longrope":
        first_context = scaling.original_sequence_length
        return 1.0 if scaling.factor <= 1 or not first_context else math.sqrt(1 + math.log(scaling.factor) / math.log(first_context))
    return scaling.attention_factor or (1.0 if scaling.factor <= 1 else 1 + 0.1 * math.log(scaling.factor))


def attention_scale(model: Model, is_fused: bool) -> float | None:
    """Return what attention's scores are multiplied by, None for 1 / root of the head's width.

    Fused rotation has no place for YaRN's factor of queries and keys; their products get its square.
    """
    factor = attention_factor(model.rope_scaling) if is_fused else 1.0
    return model.attention_scale if factor == 1 else (model.attention_scale or model.head_size**-0.5) * factor**2


def rotary_magnitude(model: Model, is_fused: bool) -> dict[str, float]:
    """Return the keys by which megatron-core's configuration says YaRN's factor: (1 + 0.1 mscale ln(factor)) for any scaling."""
    scaling, factor = model.rope_scaling, attention_factor(model.rope_scaling)
    if scaling is None or factor == 1 or is_fused:
        return {}
    stretch = max(scaling.factor, math.e)  # of 1 and less, megatron-core takes no logarithm
    return {
        "yarn_rotary_scaling_factor": stretch,
        "yarn_mscale": (factor - 1) / (0.1 * math.log(stretch)),
        "yarn_mscale_all_dim": 0.0,
    }
