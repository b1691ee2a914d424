"""RMSNorm over all heads of query or key together (OLMo 2), whose heads may lie on several tensor ranks."""

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import set_tensor_model_parallel_attributes
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint
from torch.distributed.nn.functional import all_reduce

__all__ = ["KeyNorm", "QueryNorm"]


class WideNorm(torch.nn.Module):
    """Normalizes [sequence, batch, heads of this rank, size] over all heads of all tensor ranks; each has its heads' weights."""

    def __init__(self, config: TransformerConfig, heads: int, size: int, eps: float):
        super().__init__()
        self.width, self.eps = heads * size, eps
        own = self.width // config.tensor_model_parallel_size
        self.weight = torch.nn.Parameter(torch.ones(own, dtype=config.params_dtype))
        self.is_spread = config.tensor_model_parallel_size > 1
        if self.is_spread:
            set_tensor_model_parallel_attributes(self.weight, is_parallel=True, dim=0, stride=1)

    def forward(self, heads: torch.Tensor) -> torch.Tensor:
        """Normalize; tensor ranks add up their squares, and backward the gradients of the sum."""
        whole = heads.float()
        squares = whole.square().sum(dim=(-2, -1), keepdim=True)
        if self.is_spread:
            squares = all_reduce(squares, group=parallel_state.get_tensor_model_parallel_group())
        normed = whole * torch.rsqrt(squares / self.width + self.eps)
        return self.weight.view(heads.shape[-2:]) * normed.to(heads.dtype)

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> dict:
        """Return the weight as a part of the whole one."""
        return make_sharded_tensors_for_checkpoint(self.state_dict(keep_vars=True), prefix, {"weight": 0}, sharded_offsets)


class QueryNorm(WideNorm):
    """The norm of all queries."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float):
        super().__init__(config, config.num_attention_heads, hidden_size, eps)


class KeyNorm(WideNorm):
    """The norm of all keys."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float):
        super().__init__(config, config.num_query_groups or config.num_attention_heads, hidden_size, eps)
