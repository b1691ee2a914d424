"""torch's FlashAttention over stretches of variable length on CPU tensors, which it has for CUDA alone: the same in plain torch."""

import types

import torch
from stand_in_attention import attend, gradients, hidden

__all__ = ["register_flash_attention"]

CAUSAL, ANY = types.SimpleNamespace(key="CAUSAL"), types.SimpleNamespace(key="NONE")


def stretches(borders) -> list[slice]:
    """Return which rows of [tokens, ..] belong together."""
    return [slice(first, last) for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)]


def options(size: int, is_causal: bool, scale, left, device) -> tuple[int, torch.Tensor | None]:
    """Return the factor of scores, and what a query does not see in a stretch of this size."""
    return scale, hidden(size, size, CAUSAL if is_causal else ANY, (-1 if left is None else left, 0), device)


def forward(
    query, key, value, borders, borders_kv, longest, longest_kv, dropout, is_causal, debug, *, scale=None, window_size_left=None, **more
):
    """Attention of [tokens, heads, size] within stretches; with it what backward needs, [tokens, heads, 1]."""
    assert not dropout, "no stand-in for dropout"
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    output = torch.empty_like(query)
    logarithms = torch.empty(*query.shape[:2], 1, dtype=torch.float32)
    for part in stretches(borders):
        parts = [of[part, None] for of in (query, key, value)]
        found, logarithm = attend(*parts, *options(part.stop - part.start, is_causal, scale, window_size_left, query.device))
        output[part], logarithms[part] = found[:, 0].to(query.dtype), logarithm[0].transpose(0, 1)
    state = torch.zeros(2, dtype=torch.int64)
    return output, logarithms, state, state.clone(), query.new_zeros(0)


def backward(
    gradient, query, key, value, output, logarithms, borders, borders_kv, longest, longest_kv, dropout, is_causal, state, unused, *,
    scale=None, window_size_left=None, **more
):  # fmt: skip
    """Gradients of query, key and value."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    found = [torch.empty_like(of) for of in (query, key, value)]
    for part in stretches(borders):
        parts = [of[part, None] for of in (query, key, value, output, gradient)]
        logarithm = logarithms[part].transpose(0, 1)[None]
        of_each = gradients(*parts, logarithm, *options(part.stop - part.start, is_causal, scale, window_size_left, query.device))
        for whole, of in zip(found, of_each, strict=True):
            whole[part] = of[:, 0].to(whole.dtype)
    return tuple(found)


def register_flash_attention() -> torch.library.Library:
    """Give the CPU these kernels for as long as what is returned lives; torch's own rule of derivatives goes from one to the other."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward, "CPU")
    library.impl("_flash_attention_backward", backward, "CPU")
    return library
