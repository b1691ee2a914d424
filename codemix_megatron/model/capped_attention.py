"""Attention whose scores are squeezed below a cap (Gemma 2). No kernel of torch computes it, so that scores are in memory, all at once."""

import torch

__all__ = ["capped_attention"]


def capped_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor | None, scale: float | None, cap: float, dropout: float
) -> torch.Tensor:
    """Map query [batch, heads, length, size], key and value [batch, groups, length, size] to query's shape.

    `seen` says which tokens may see which, bool [.., length, length]; None is all before.
    """
    length, repeats = query.size(2), query.size(1) // key.size(1)
    key, value = (of.repeat_interleave(repeats, dim=1) for of in (key, value))
    scores = torch.matmul(query, key.transpose(2, 3)) * (query.size(-1) ** -0.5 if scale is None else scale)
    scores = cap * torch.tanh(scores / cap)
    if seen is None:
        seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    shares = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(torch.nn.functional.dropout(shares, dropout), value)
