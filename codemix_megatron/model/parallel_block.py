"""The paper's layer: attention and MLP side by side on one norm, with one tensor-parallel reduction instead of two.

x + attention(norm(x)) + mlp(norm(x)), as in GPT-J, PaLM and Cohere's models. megatron-core has no such layer.
"""

from typing import Any

import torch
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region, reduce_scatter_to_sequence_parallel_region
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.transformer_layer import TransformerLayer

from codemix_megatron.megatron.identity_collectives import into_tensor_ranks, out_of_tensor_ranks

__all__ = ["ParallelLayer"]


class ParallelLayer(TransformerLayer):
    """One layer of a parallel block; its submodules have an `input_layernorm` and no `pre_mlp_layernorm`.

    The normed input goes to the tensor ranks once, the four linears do not communicate, and the partial sums of
    attention and MLP are added before the one reduction. Megatron's own overlapped shared experts silence their
    linears in the same way.
    """

    def __init__(self, config: TransformerConfig, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        for linear in (self.self_attention.linear_qkv, self.self_attention.linear_proj, self.mlp.linear_fc1, self.mlp.linear_fc2):
            disable_communication(linear)

    def forward(self, hidden_states: torch.Tensor, attention_mask=None, context=None, rotary_pos_emb=None, **others):
        """Map [sequence, batch, hidden] to the same; under sequence parallel this rank's part of the sequence."""
        normed = self.into_tensor_ranks(self.input_layernorm(hidden_states))
        passed = {name: others.get(name) for name in ("attention_bias", "packed_seq_params", "sequence_len_offset")}
        attended, _ = self.self_attention(normed, attention_mask=attention_mask, rotary_pos_emb=rotary_pos_emb, **passed)
        fed, _ = self.mlp(normed)
        summed = self.out_of_tensor_ranks(attended + fed)
        return hidden_states + torch.nn.functional.dropout(summed, self.hidden_dropout, self.training), context

    def into_tensor_ranks(self, normed: torch.Tensor) -> torch.Tensor:
        """Hand every tensor rank the whole sequence; backward sums (and splits) its gradient."""
        if self.config.sequence_parallel:
            return gather_from_sequence_parallel_region(normed, tensor_parallel_output_grad=True, group=self.tp_group)
        return into_tensor_ranks(normed, group=self.tp_group)

    def out_of_tensor_ranks(self, partial_sums: torch.Tensor) -> torch.Tensor:
        """Sum over tensor ranks (and split along the sequence): the layer's only reduction in forward."""
        if self.config.sequence_parallel:
            return reduce_scatter_to_sequence_parallel_region(partial_sums, group=self.tp_group)
        return out_of_tensor_ranks(partial_sums, group=self.tp_group)


def disable_communication(linear: Any) -> None:
    """Keep a column- or row-parallel linear from communicating; it returns what its own shard gives."""
    if hasattr(linear, "parallel_mode"):  # Transformer Engine
        linear.parallel_mode = None
        for name in ("ub_overlap_rs_fprop", "ub_overlap_ag_dgrad", "ub_overlap_ag_fprop", "ub_overlap_rs_dgrad"):
            setattr(linear, name, False)
    else:
        linear.explicit_expert_comm = True
