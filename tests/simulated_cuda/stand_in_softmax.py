"""Transformer Engine's softmax of 16-bit scores in plain torch: scaled, and masked by a mask or by what comes later."""

import torch

__all__ = ["KERNELS"]


def softmax(scores, hidden, factor):
    """Softmax of what is not hidden; a row of which everything is hidden gives zeros."""
    scaled = scores.float() * float(factor)
    if hidden is None:
        return scaled.softmax(-1).to(scores.dtype)
    kept = scaled.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.nan_to_num(kept, nan=0.0).to(scores.dtype)


def later(scores):
    """Hides, for each query, the keys that come after it; the last query is that of the last key."""
    queries, keys = scores.shape[-2:]
    return torch.ones(queries, keys, dtype=torch.bool, device=scores.device).triu(1 + keys - queries)


def backward(gradient, result, factor):
    """The gradient of the scores."""
    gradient, found = gradient.float(), result.float()
    return ((gradient - (gradient * found).sum(-1, keepdim=True)) * found * float(factor)).to(result.dtype)


KERNELS = {
    "scaled_softmax_forward": lambda scores, factor: softmax(scores, None, factor),
    "scaled_masked_softmax_forward": lambda scores, mask, factor: softmax(scores, mask.bool(), factor),
    "scaled_upper_triang_masked_softmax_forward": lambda scores, factor: softmax(scores, later(scores), factor),
    "scaled_aligned_causal_masked_softmax_forward": lambda scores, factor: softmax(scores, later(scores), factor),
    "scaled_softmax_backward": backward,
    "scaled_masked_softmax_backward": backward,
    "scaled_upper_triang_masked_softmax_backward": backward,
    "scaled_aligned_causal_masked_softmax_backward": backward,
}
