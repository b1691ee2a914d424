"""Layer specs: Transformer Engine on CUDA where it is installed, torch's own kernels otherwise."""

import torch
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec, get_gpt_layer_with_transformer_engine_spec
from megatron.core.transformer import ModuleSpec, TransformerConfig
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build

from codemix_megatron.parallel.device import active_engines

__all__ = ["FlashAttention", "RMSNorm", "decoder_spec"]


class FlashAttention(MegatronModule):
    """Causal core attention through torch's scaled_dot_product_attention; scores are never materialised."""

    def __init__(self, config, layer_number, attn_mask_type, attention_type, softmax_scale=None, cp_comm_type=None, pg_collection=None):
        super().__init__(config=config)
        self.softmax_scale = softmax_scale

    def forward(self, query, key, value, attention_mask, attn_mask_type=None, attention_bias=None, packed_seq_params=None):
        """Map query [sequence, batch, heads, size], key and value [.., groups, size] to [sequence, batch, heads * size].

        `attention_mask` is None for causal attention, or bool [batch, 1, sequence, sequence], True where a query may look.
        """
        query, key, value = (t.permute(1, 2, 0, 3) for t in (query, key, value))
        options = {"is_causal": True} if attention_mask is None else {"attn_mask": attention_mask}
        context = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, scale=self.softmax_scale, enable_gqa=query.size(1) != key.size(1), **options
        )
        batch, heads, sequence, size = context.shape
        return context.permute(2, 0, 1, 3).reshape(sequence, batch, heads * size)


class RMSNorm(torch.nn.RMSNorm):
    """RMSNorm whose weight tells Megatron to sum its gradient over tensor ranks under sequence parallel."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5):
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        self.weight.sequence_parallel = config.sequence_parallel


def decoder_spec(config: TransformerConfig, device: torch.device, chunk: int | None):
    """Return the spec of this rank's decoder layers; `chunk` is the virtual pipeline stage, if there is one."""
    if device.type == "cuda" and active_engines()["transformer_engine"]:
        return get_gpt_layer_with_transformer_engine_spec()
    layer = get_gpt_layer_local_spec(normalization="RMSNorm")
    layer.submodules.input_layernorm = RMSNorm
    layer.submodules.pre_mlp_layernorm = RMSNorm
    layer.submodules.self_attention.submodules.core_attention = ModuleSpec(module=FlashAttention)
    layers = get_num_layers_to_build(config, vp_stage=chunk)
    return TransformerBlockSubmodules(layer_specs=[layer] * layers, layer_norm=RMSNorm)
