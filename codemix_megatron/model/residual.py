"""What a layer adds to the residual stream, normed or scaled on the way: x + multiplier * norm(attention(x))."""

from collections.abc import Callable

import torch
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.transformer import TransformerConfig

__all__ = ["ResidualAdd"]


class ResidualAdd(torch.nn.Module):
    """Takes the place of Megatron's bias-dropout-add; the norm is OLMo 2's, the multiplier Granite's."""

    def __init__(self, config: TransformerConfig, norm: type | None, multiplier: float):
        super().__init__()
        self.norm = norm(config, config.hidden_size, config.layernorm_epsilon) if norm else None
        self.multiplier = multiplier

    def forward(self, training: bool, fused: bool) -> Callable:
        """Return a function of ((output, bias), residual, dropout), as Megatron's does."""
        add = get_bias_dropout_add(training, fused)

        def changed(output_and_bias, residual, dropout):
            output, bias = output_and_bias
            output = output if bias is None else output + bias
            output = output if self.norm is None else self.norm(output)
            return add((output if self.multiplier == 1 else output * self.multiplier, None), residual, dropout)

        return changed
