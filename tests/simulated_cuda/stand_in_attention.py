"""Transformer Engine's fused attention in place of cuDNN's: shapes on fake CUDA tensors, values in plain torch on CPU.

Values are computed as flash kernels do: forward keeps the logarithm of each row's sum, backward takes that and the output, so that parts
of a sequence that context parallel ranks compute one after the other add up.
"""

import os
import sys

import torch

__all__ = ["kernels"]

LAYOUTS = {"NVTE_SBHD_SBHD_SBHD", "NVTE_THD_THD_THD"}


def hidden(queries: int, keys: int, mask, window: tuple[int, int], device) -> torch.Tensor | None:
    """Return what a query does not see, bool [queries, keys]; None where it sees all."""
    if "CAUSAL" not in mask.key:
        return None
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device).tril()
    return ~(seen if window[0] < 0 else seen.triu(-window[0]))


def scores(query, key, factor: float, out_of_sight) -> torch.Tensor:
    """[queries, batch, heads, size], [keys, ..] -> [batch, heads, queries, keys] in fp32."""
    found = torch.einsum("sbhd,tbhd->bhst", query, key) * factor
    return found if out_of_sight is None else found.masked_fill(out_of_sight, float("-inf"))


def of_each_head(tensor, heads: int) -> torch.Tensor:
    """Give each query head its group's keys or values, in fp32."""
    return tensor.float().repeat_interleave(heads // tensor.shape[2], 2)


def attend(query, key, value, factor: float, out_of_sight) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the output in fp32, and the logarithms of sums [batch, heads, queries, 1]."""
    key, value = (of_each_head(of, query.shape[2]) for of in (key, value))
    found = scores(query.float(), key, factor, out_of_sight)
    logarithm = found.logsumexp(-1, keepdim=True)
    return torch.einsum("bhst,tbhd->sbhd", (found - logarithm).exp(), value), logarithm


def gradients(query, key, value, output, gradient, logarithm, factor: float, out_of_sight) -> list[torch.Tensor]:
    """Return the gradients of query, key and value."""
    heads, groups = query.shape[2], key.shape[2]
    query, output, gradient = (of.float() for of in (query, output, gradient))
    wide_key, wide_value = (of_each_head(of, heads) for of in (key, value))
    shares = (scores(query, wide_key, factor, out_of_sight) - logarithm).exp()
    inner = (gradient * output).sum(-1).permute(1, 2, 0)[..., None]
    of_scores = shares * (torch.einsum("sbhd,tbhd->bhst", gradient, wide_value) - inner) * factor
    of_query = torch.einsum("bhst,tbhd->sbhd", of_scores, wide_key)
    others = torch.einsum("bhst,sbhd->tbhd", of_scores, query), torch.einsum("bhst,sbhd->tbhd", shares, gradient)
    return [of_query, *(of.unflatten(2, (groups, heads // groups)).sum(3) for of in others)]


def stretches(layout, borders) -> list[slice]:
    """Return which rows of [tokens, ..] are attended to together; all of [sequence, batch, ..]."""
    assert layout.key in LAYOUTS, f"no stand-in for {layout}"
    if layout.key.startswith("NVTE_SBHD"):
        return [slice(None)]
    return [slice(first, last) for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)]


def as_batch(tensors, part: slice, layout) -> list[torch.Tensor]:
    """Return rows of tensors as [sequence, batch, heads, size]."""
    return [of[part] if layout.key.startswith("NVTE_SBHD") else of[part, None] for of in tensors]


def forward(
    longest, longest_kv, is_training, factor, dropout, fill, layout, bias, mask, softmax, window, borders, borders_kv, q, k, v, *more
):
    """The output, what backward needs, and a state of random numbers that nothing is drawn from."""
    assert not dropout, "no stand-in for dropout"
    output, logarithms = torch.empty_like(q), []
    for part in stretches(layout, borders):
        query, key, value = as_batch((q, k, v), part, layout)
        found, logarithm = attend(query, key, value, factor, hidden(len(query), len(key), mask, window, q.device))
        output[part] = found.reshape(output[part].shape).to(q.dtype)
        logarithms.append(logarithm if layout.key.startswith("NVTE_SBHD") else logarithm[0].transpose(0, 1))
    return [output, torch.cat(logarithms), torch.zeros(2, dtype=torch.int64)]


def backward(
    longest, longest_kv, factor, dropout, fill, layout, bias, mask, softmax, window, deterministic, borders, borders_kv, q, k, v, *more
):
    """Gradients of query, key and value."""
    output, gradient, _, _, (logarithms, *_) = more[:5]
    found = [torch.empty_like(of) for of in (q, k, v)]
    for part in stretches(layout, borders):
        query, key, value, own, given = as_batch((q, k, v, output, gradient), part, layout)
        logarithm = logarithms if layout.key.startswith("NVTE_SBHD") else logarithms[part].transpose(0, 1)[None]
        logarithm = logarithm.reshape(*logarithm.shape[:3], 1)
        of_each = gradients(query, key, value, own, given, logarithm, factor, hidden(len(query), len(key), mask, window, q.device))
        for whole, of in zip(found, of_each, strict=True):
            whole[part] = of.reshape(whole[part].shape).to(whole.dtype)
    return [*found, None, None]


def forward_shapes(
    longest, longest_kv, is_training, factor, dropout, fill, layout, bias, mask, softmax, window, borders, borders_kv, q, k, v, *more
):
    """Shapes of cuDNN's attention: the output and what backward needs, one number for each query and head."""
    shape = (*q.shape[:-1], 1) if layout.key.startswith("NVTE_THD") else (q.shape[1], q.shape[2], q.shape[0], 1)
    return [torch.empty_like(q), torch.empty(shape, dtype=torch.float32, device=q.device), torch.zeros(2, dtype=torch.int64)]


def backward_shapes(
    longest, longest_kv, factor, dropout, fill, layout, bias, mask, softmax, window, deterministic, borders, borders_kv, q, k, v, *more
):
    """Shapes of its gradients."""
    return [torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None, None]


def kernels(backends) -> dict:
    """Return the kernels; with values Transformer Engine takes its own attention unless STAND_IN_ATTENTION=fused."""
    in_shape = "fake_cuda" in sys.modules
    is_fused = in_shape or os.environ.get("STAND_IN_ATTENTION") == "fused"
    taken = backends.NVTE_F16_arbitrary_seqlen if is_fused else backends.NVTE_No_Backend
    return {
        "get_fused_attn_backend": lambda *arguments: taken,
        "fused_attn_fwd": forward_shapes if in_shape else forward,
        "fused_attn_bwd": backward_shapes if in_shape else backward,
    }
