"""SwiGLU in as few passes over memory as torch's own kernels allow."""

import torch
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule

__all__ = ["SwiGLU"]


class SwiGLU(MegatronModule):
    """silu(gate) * up over the two halves of [.., 2 * width] (Shazeer 2020); stands where Megatron's MLP takes an activation module."""

    def __init__(self, config: TransformerConfig):
        super().__init__(config=config)

    def forward(self, gate_and_up: torch.Tensor) -> torch.Tensor:
        """Map [.., 2 * width] to [.., width]."""
        return GatedSilu.apply(gate_and_up)


class GatedSilu(torch.autograd.Function):
    """Backward writes both halves in place; autograd computes them apart and copies them together."""

    @staticmethod
    def forward(ctx, gate_and_up: torch.Tensor) -> torch.Tensor:
        """Keep the input and silu of its first half."""
        gate, up = gate_and_up.chunk(2, dim=-1)
        opened = torch.nn.functional.silu(gate)
        ctx.save_for_backward(gate_and_up, opened)
        return opened * up

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of [.., 2 * width]."""
        gate_and_up, opened = ctx.saved_tensors
        gate, up = gate_and_up.chunk(2, dim=-1)
        both = torch.empty_like(gate_and_up)
        for_gate, for_up = both.chunk(2, dim=-1)
        torch.mul(gradient, opened, out=for_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=for_gate)
        return both
