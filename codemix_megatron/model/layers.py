"""Layer specs: Transformer Engine on CUDA where it is installed, torch's own kernels otherwise."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear, get_cuda_rng_tracker
from megatron.core.transformer import ModuleSpec, TransformerConfig
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules
from megatron.core.transformer.utils import is_layer_window_attention

from codemix_megatron.megatron.activation import SwiGLU
from codemix_megatron.megatron.root_mean_square import normalize
from codemix_megatron.megatron.switches import is_left_out
from codemix_megatron.model.capped_attention import capped_attention
from codemix_megatron.model.document_attention import attend_within_documents, transformer_engine_attention
from codemix_megatron.model.parallel_block import ParallelLayer
from codemix_megatron.model.residual import ResidualAdd
from codemix_megatron.model.two_rotations import TwoRotations
from codemix_megatron.model.wide_norm import KeyNorm, QueryNorm
from codemix_megatron.parallel.device import active_engines
from codemix_megatron.recipe.schema import Model

__all__ = ["FlashAttention", "LayerNorm", "RMSNorm", "layer_and_norm"]

# Checkpoints of local layers have the names of Transformer Engine's, whose linears have the norms inside them.
KEYS_OF_NORMS = {"input_layernorm.": "self_attention.linear_qkv.layer_norm_", "pre_mlp_layernorm.": "mlp.linear_fc1.layer_norm_"}


class FlashAttention(MegatronModule):
    """Causal core attention through torch's scaled_dot_product_attention; scores are never materialised."""

    def __init__(
        self, config, layer_number, attn_mask_type, attention_type, softmax_scale=None, cp_comm_type=None, pg_collection=None, softcap=None
    ):
        super().__init__(config=config)
        self.softmax_scale, self.softcap = softmax_scale, softcap
        self.dropout = config.attention_dropout
        is_windowed = is_layer_window_attention(config.window_size, config.window_attn_skip_freq, layer_number)
        self.window = config.window_size[0] + 1 if is_windowed else None

    def forward(self, query, key, value, attention_mask, attn_mask_type=None, attention_bias=None, packed_seq_params=None):
        """Map query [sequence, batch, heads, size], key and value [.., groups, size] to [sequence, batch, heads * size].

        `attention_mask` is None for causal attention, or bool [batch, 1, sequence, sequence], True where a query may look;
        `packed_seq_params` has the borders of documents, across which none looks.
        """
        dropout = self.dropout if self.training else 0.0
        if packed_seq_params is not None:
            with self.tensor_parallel_rng():
                return attend_within_documents(query, key, value, packed_seq_params, dropout, self.softmax_scale, self.window)
        query, key, value = (t.permute(1, 2, 0, 3) for t in (query, key, value))
        mask = attention_mask if self.window is None else within_window(query.size(2), self.window, attention_mask, query.device)
        with self.tensor_parallel_rng():
            if self.softcap is None:
                context = attend(query, key, value, mask, self.softmax_scale, dropout)
            else:
                context = capped_attention(query, key, value, mask, self.softmax_scale, self.softcap, dropout)
        batch, heads, sequence, size = context.shape
        return context.permute(2, 0, 1, 3).reshape(sequence, batch, heads * size)

    def tensor_parallel_rng(self):
        """Draw dropout from this tensor rank's own stream: its heads are others. Under sequence parallel the whole block does."""
        is_drawing = self.training and self.dropout > 0 and not self.config.sequence_parallel
        return get_cuda_rng_tracker().fork() if is_drawing else nullcontext()


def attend(query, key, value, mask: torch.Tensor | None, scale: float | None, dropout: float) -> torch.Tensor:
    """Return torch's own attention; without a mask a token sees all before it."""
    options = {"is_causal": True} if mask is None else {"attn_mask": mask}
    options |= {"dropout_p": dropout, "enable_gqa": query.size(1) != key.size(1)}
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scale, **options)


def within_window(length: int, window: int, mask: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """Return which tokens may see which, bool [.., length, length]: those of `mask` (default: all before) less than `window` away."""
    near = torch.ones(length, length, dtype=torch.bool, device=device).triu(1 - window)
    return near.tril() if mask is None else near & mask


class RMSNorm(torch.nn.RMSNorm):
    """RMSNorm whose weight is marked so that Megatron sums its gradient over tensor ranks under sequence parallel."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5):
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        setattr(self.weight, "sequence_parallel", config.sequence_parallel)  # noqa: B010 - an attribute of Megatron's, not of torch's
        self.is_ours = not is_left_out("root mean square")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize over the last dimension."""
        return normalize(x, self.weight, float(self.eps or 0)) if self.is_ours else super().forward(x)


class ZeroCenteredRMSNorm(RMSNorm):
    """RMSNorm that multiplies by 1 + weight, all in fp32 (Gemma)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize over the last dimension."""
        return normalize(x.float(), 1.0 + self.weight.float(), float(self.eps or 0)).to(x.dtype)


class LayerNorm(torch.nn.LayerNorm):
    """LayerNorm without bias, which Transformer Engine and apex do not have; its weight is marked as RMSNorm's."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5):
        super().__init__(hidden_size, eps=eps, bias=False, dtype=config.params_dtype)
        setattr(self.weight, "sequence_parallel", config.sequence_parallel)  # noqa: B010


class BiasedLayerNorm(torch.nn.LayerNorm):
    """LayerNorm whose weight and bias are marked as RMSNorm's weight."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5):
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        for vector in (self.weight, self.bias):
            setattr(vector, "sequence_parallel", config.sequence_parallel)  # noqa: B010


def layer_and_norm(config: TransformerConfig, model: Model, device: torch.device) -> tuple[ModuleSpec, type]:
    """Return the spec of a decoder layer, and the class of the norm behind the last one."""
    on_transformer_engine = device.type == "cuda" and active_engines()["transformer_engine"]
    root_mean_square = ZeroCenteredRMSNorm if model.zero_centered_norm else RMSNorm
    norm: type = {"rmsnorm": root_mean_square, "layernorm": LayerNorm, "layernorm_with_bias": BiasedLayerNorm}[model.normalization]
    if on_transformer_engine:
        layer, norm = transformer_engine_layer(model, norm)
    else:
        layer = local_layer(model, norm)
    change_residuals(layer, config, model, norm)
    if model.block == "parallel":
        layer.module = ParallelLayer
        layer.submodules.pre_mlp_layernorm = IdentityOp
    return layer, norm


def change_residuals(layer: ModuleSpec, config: TransformerConfig, model: Model, norm: type) -> None:
    """Have a layer's two additions to the residual stream scaled, or normed there instead of before, or as well."""
    is_after = model.norm_position in ("after", "both")
    if model.norm_position == "after":
        layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = IdentityOp
    if is_after or model.residual_multiplier != 1:
        options = {"config": config, "norm": norm if is_after else None, "multiplier": model.residual_multiplier}
        layer.submodules.self_attn_bda = ModuleSpec(module=ResidualAdd, params=options)
        layer.submodules.mlp_bda = ModuleSpec(module=ResidualAdd, params=options)


def local_layer(model: Model, norm: type) -> ModuleSpec:
    """Return a layer of Megatron's own linears with our norm, core attention and activation."""
    activation = SwiGLU if model.activation == "swiglu" and not is_left_out("SwiGLU") else None
    linears = {"linear_fc1": ColumnParallelLinear, "linear_fc2": RowParallelLinear}
    attention = SelfAttentionSubmodules(
        linear_qkv=ColumnParallelLinear,
        core_attention=ModuleSpec(module=FlashAttention, params={"softcap": model.attention_softcap}),
        linear_proj=RowParallelLinear,
    )
    if model.qk_norm:
        attention.q_layernorm, attention.k_layernorm = (norm, norm) if model.qk_norm_width == "head" else (QueryNorm, KeyNorm)
    options: dict[str, Any] = {"attn_mask_type": AttnMaskType.causal}
    module: type = SelfAttention
    if model.window_rope_base is not None:
        module, options = TwoRotations, {**options, "model": model}
    parts = TransformerLayerSubmodules(
        input_layernorm=norm,
        self_attention=ModuleSpec(module=module, params=options, submodules=attention),
        self_attn_bda=get_bias_dropout_add,
        pre_mlp_layernorm=norm,
        mlp=experts_of(model, activation) if model.num_experts else mlp_of(MLPSubmodules(**linears, activation_func=activation)),
        mlp_bda=get_bias_dropout_add,
        sharded_state_dict_keys_map=KEYS_OF_NORMS,
    )
    return ModuleSpec(module=TransformerLayer, submodules=parts)


def experts_of(model: Model, activation: type | None) -> ModuleSpec:
    """Return megatron-core's mixture of experts, made of its own linears."""
    from megatron.core.models.gpt.moe_module_specs import get_moe_module_spec

    spec = get_moe_module_spec(use_te=False, num_experts=model.num_experts)
    spec.submodules.experts.submodules.activation_func = activation
    return spec


def mlp_of(parts: MLPSubmodules) -> Any:
    """Return what a layer makes its MLP of: a spec, or since megatron-core 0.17 a partial function."""
    return partial(MLP.as_mlp_submodule, submodules=parts) if hasattr(MLP, "as_mlp_submodule") else ModuleSpec(module=MLP, submodules=parts)


def transformer_engine_layer(model: Model, norm: type) -> tuple[ModuleSpec, type]:
    """Return a layer of Transformer Engine's linears, norms and attention, and the class of the final norm.

    Its linears have the norm inside them. They do not where one norm serves two linears (parallel block), nor
    where the norm is a LayerNorm without bias.
    """
    from megatron.core.extensions.transformer_engine import (
        TEColumnParallelLinear,
        TELayerNormColumnParallelLinear,
        TENorm,
        TERowParallelLinear,
    )

    has_norms_apart = model.block == "parallel" or model.normalization == "layernorm"
    first = TEColumnParallelLinear if has_norms_apart else TELayerNormColumnParallelLinear
    norm = TENorm if model.normalization == "rmsnorm" else norm
    attention = SelfAttentionSubmodules(linear_qkv=first, core_attention=transformer_engine_attention(), linear_proj=TERowParallelLinear)
    if model.qk_norm:  # Transformer Engine's own LayerNorm has a bias, and would make another model
        attention.q_layernorm, attention.k_layernorm = norm, norm
    parts = TransformerLayerSubmodules(
        self_attention=ModuleSpec(module=SelfAttention, params={"attn_mask_type": AttnMaskType.causal}, submodules=attention),
        self_attn_bda=get_bias_dropout_add,
        mlp=mlp_of(MLPSubmodules(linear_fc1=first, linear_fc2=TERowParallelLinear)),
        mlp_bda=get_bias_dropout_add,
    )
    if has_norms_apart:
        parts.input_layernorm, parts.pre_mlp_layernorm = norm, norm
        parts.sharded_state_dict_keys_map = KEYS_OF_NORMS
    return ModuleSpec(module=TransformerLayer, submodules=parts), norm
