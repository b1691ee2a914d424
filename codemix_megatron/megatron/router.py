"""The scores of a mixture of experts' router."""

import torch

__all__ = ["router_scores"]


def router_scores(inp: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, router_dtype: torch.dtype) -> torch.Tensor:
    """Map [.., hidden] by weight [experts, hidden] to [.., experts], computed in the router's dtype."""
    return torch.nn.functional.linear(inp.to(router_dtype), weight.to(router_dtype), None if bias is None else bias.to(router_dtype))
