"""Transformer Engine's matrix product where megatron-core's own linears ask apex for one: the output layer adds up its gradient at once."""

import torch

__all__ = ["TransformerEngineGradients"]


class TransformerEngineGradients:
    """Stands in for apex's fused_weight_gradient_mlp_cuda. Transformer Engine's own linears add theirs up in the same way."""

    @staticmethod
    def wgrad_gemm_accum_fp32(inputs: torch.Tensor, gradients: torch.Tensor, total: torch.Tensor) -> None:
        """Add gradients.T @ inputs, of [tokens, out] and [tokens, in] in bf16, to `total` [out, in] in fp32."""
        from transformer_engine.pytorch.cpp_extensions import general_gemm

        general_gemm(inputs, gradients, out_dtype=total.dtype, layout="NT", grad=True, out=total, accumulate=True)

    wgrad_gemm_accum_fp16 = wgrad_gemm_accum_fp32
