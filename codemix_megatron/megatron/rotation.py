"""Rotary positions in fewer passes over memory than megatron-core's own way, which joins two halves twice."""

import torch
from megatron.core.models.common.embeddings import rope_utils

__all__ = ["rotate", "rotate_since_19"]


class Rotation(torch.autograd.Function):
    """Turn pairs of channels of [sequence, batch, heads, size] by angles [sequence, 1, 1, size]; backward turns them back."""

    @staticmethod
    def forward(ctx, channels: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
        """Return the turned channels."""
        ctx.save_for_backward(cos, sin)
        ctx.interleaved = interleaved
        return apply_rotary(channels, cos, sin, interleaved, 1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        """Return the gradient of the channels."""
        cos, sin = ctx.saved_tensors
        return apply_rotary(gradient, cos, sin, ctx.interleaved, -1), None, None, None


def apply_rotary(channels: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool, sign: int) -> torch.Tensor:
    """Return (a cos - b sin, b cos + a sin) for every pair (a, b), or with -sin where `sign` is -1."""
    # Products are rounded before they are added: fused, logits would end 4e-5 from those of Hugging Face instead of 0.
    turned = torch.mul(channels, cos, out=torch.empty_like(channels, memory_format=torch.contiguous_format))
    product = channels * sin
    (a, b), (a_sin, b_sin) = pairs(turned, interleaved), pairs(product, interleaved)
    a.sub_(b_sin, alpha=sign)
    b.add_(a_sin, alpha=sign)
    return turned


def pairs(values: torch.Tensor, interleaved: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first and the second channel of every pair: neighbours, or halves."""
    if interleaved:
        return values[..., ::2], values[..., 1::2]
    first, second = values.chunk(2, dim=-1)
    return first, second


def rotate(t, freqs, rotary_interleaved=False, multi_latent_attention=False, mscale=1.0):
    """Stand in for `_apply_rotary_pos_emb_bshd` of megatron-core before 0.19; what is not of this package's models goes there."""
    if multi_latent_attention or freqs.shape[-1] != t.shape[-1]:
        return megatrons_own(t, freqs, rotary_interleaved, multi_latent_attention, mscale)
    return Rotation.apply(t, *cos_and_sin(freqs, t.dtype, mscale), rotary_interleaved)


def rotate_since_19(t, freqs, rotary_interleaved=False, mla_rotary_interleaved=False, mscale=1.0, multi_latent_attention=None):
    """Stand in for that of megatron-core since 0.19, whose fourth argument has another name."""
    if multi_latent_attention is not None:
        return megatrons_own(t, freqs, rotary_interleaved, mla_rotary_interleaved, mscale, multi_latent_attention)
    return rotate(t, freqs, rotary_interleaved, mla_rotary_interleaved, mscale)


def cos_and_sin(freqs: torch.Tensor, dtype: torch.dtype, mscale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both of the angles, kept with them: all layers of all passes are given the same tensor."""
    known = freqs.__dict__.setdefault("cos_and_sin", {}) if not torch.is_inference_mode_enabled() else {}
    if (dtype, mscale) not in known:
        known[dtype, mscale] = (torch.cos(freqs) * mscale).to(dtype), (torch.sin(freqs) * mscale).to(dtype)
    return known[dtype, mscale]


megatrons_own = rope_utils._apply_rotary_pos_emb_bshd
