"""Recipe -> megatron-core TransformerConfig."""

import torch
from megatron.core.transformer import TransformerConfig

from codemix_megatron.errors import RecipeError
from codemix_megatron.megatron.change import is_here, megatron_version
from codemix_megatron.megatron.installing import is_active
from codemix_megatron.megatron.switches import is_left_out
from codemix_megatron.model.rotary import attention_scale, rotary_magnitude
from codemix_megatron.parallel.device import active_engines
from codemix_megatron.parallel.fusions import cross_entropy_kernel
from codemix_megatron.recipe.schema import Model, Parallel, Recipe

__all__ = ["WITH_EXPERTS", "require_engines", "transformer_config"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WITH_EXPERTS = "<0.17"  # the versions of megatron-core whose experts were compared with transformers'


def leave_as_is(weight: torch.Tensor) -> torch.Tensor:
    """Initialise nothing."""
    return weight


def gelu(hidden: torch.Tensor) -> torch.Tensor:
    """Return GELU by its tanh form."""
    return torch.nn.functional.gelu(hidden, approximate="tanh")


def window_size(model: Model) -> tuple[int, int] | None:
    """Return how many tokens before and after itself a token sees; None where a window would not matter."""
    if model.sliding_window is None or model.sliding_window >= model.sequence_length:
        return None
    return model.sliding_window - 1, 0


def layers_without_rope(model: Model) -> list[int] | None:
    """Return 1 for each layer without rotary positions, 0 for the others; None where all have them."""
    every = model.no_rope_interval
    return [int((number + 1) % every == 0) for number in range(model.num_layers)] if every else None


def require_engines(recipe: Recipe, device: torch.device) -> None:
    """Raise RecipeError when the recipe asks for what no engine here computes."""
    model, transformer_engine = recipe.model, device.type == "cuda" and active_engines()["transformer_engine"]
    if model.fp8 != "off" and not transformer_engine:
        raise RecipeError(f"model.fp8: {model.fp8} needs Transformer Engine on CUDA; set model.fp8=off")
    if model.num_experts is not None and not is_here(WITH_EXPERTS):
        raise RecipeError(f"model.num_experts: experts are computed with megatron-core{WITH_EXPERTS}, {megatron_version()} is installed")
    local_only = {
        "norm_position": model.norm_position != "before",
        "zero_centered_norm": model.zero_centered_norm,
        "attention_softcap": model.attention_softcap is not None,
        "rotary_share": model.rotary_share != 1,
        "rope_scaling": model.rope_scaling is not None and model.rope_scaling.kind == "longrope",
        "window_rope_base": model.window_rope_base is not None,
        "qk_norm_width": model.qk_norm_width == "all",
        "normalization": model.normalization == "layernorm_with_bias",
        "activation": model.activation != "swiglu",
        "linear_bias": model.linear_bias,
        "num_experts": model.num_experts is not None,
    }
    if transformer_engine and (asked := [key for key, is_asked in local_only.items() if is_asked]):
        raise RecipeError(
            f"model.{asked[0]}: {getattr(model, asked[0])} is computed by torch's layers only, not by Transformer Engine's; set"
            " CODEMIX_WITHOUT=transformer_engine"
        )
    if device.type == "cuda" and recipe.sequences.attention_within_documents and model.attention_softcap is not None:
        raise RecipeError(
            "sequences.attention_within_documents: no kernel keeps documents apart with model.attention_softcap; set it to false"
        )
    if transformer_engine and recipe.sequences.attention_within_documents and model.precision != "bf16":
        raise RecipeError(
            "sequences.attention_within_documents: Transformer Engine keeps documents apart in bf16; set model.precision=bf16"
        )


def layout(parallel: Parallel) -> dict:
    """Return the keys of megatron-core's configuration that say how a model is spread over ranks, and what is computed again."""
    return {
        "tensor_model_parallel_size": parallel.tensor,
        "pipeline_model_parallel_size": parallel.pipeline,
        "virtual_pipeline_model_parallel_size": parallel.virtual_pipeline if parallel.virtual_pipeline > 1 else None,
        "sequence_parallel": parallel.sequence_parallel,
        "context_parallel_size": parallel.context,
        # Batched point-to-point of the interleaved schedule gives wrong losses over gloo, without an error.
        "overlap_p2p_comm": parallel.virtual_pipeline > 1,
        "batch_p2p_comm": parallel.virtual_pipeline == 1,
        "recompute_granularity": None if parallel.recompute == "none" else parallel.recompute,
        "recompute_method": "uniform" if parallel.recompute == "full" else None,
        "recompute_num_layers": 1 if parallel.recompute == "full" else None,
    }


def experts(model: Model) -> dict:
    """Return the keys of megatron-core's configuration that make a mixture of experts; each tensor rank has a part of every expert."""
    if model.num_experts is None:
        return {}
    return {
        "num_moe_experts": model.num_experts,
        "moe_ffn_hidden_size": model.ffn_size,
        "moe_router_topk": model.experts_per_token,
        # Softmax over all and then the largest; or the largest and softmax over them, whose weights add up to 1.
        "moe_router_pre_softmax": not model.normalize_experts,
        "moe_router_dtype": "fp32",
        "moe_router_load_balancing_type": "aux_loss" if model.expert_balance else "none",
        "moe_aux_loss_coeff": model.expert_balance,
        "moe_token_dispatcher_type": "allgather",
    }


def attention(model: Model, transformer_engine: bool) -> dict:
    """Return the keys of megatron-core's configuration that say what attention computes beside its heads."""
    return {
        "kv_channels": model.head_size,
        "add_qkv_bias": model.qkv_bias,
        # By it Megatron sums gradients of norms over tensor ranks, which is right for those of each head only.
        "qk_layernorm": model.qk_norm and model.qk_norm_width == "head",
        "window_size": window_size(model),
        "window_attn_skip_freq": model.full_attention_interval,
        "no_rope_freq": layers_without_rope(model),
        "rotary_interleaved": model.rotary_interleaved,
        "softmax_scale": attention_scale(model, transformer_engine),
    }


def fusions(model: Model, on_cuda: bool, transformer_engine: bool) -> dict:
    """Return the keys of megatron-core's configuration that choose kernels which do several things at once."""
    cross_entropy = cross_entropy_kernel(on_cuda, transformer_engine, model.precision)
    weight_gradient = is_active("weight gradients") or is_active("output layer's gradient")
    return {
        "bias_activation_fusion": transformer_engine,
        "bias_dropout_fusion": on_cuda,
        "apply_rope_fusion": transformer_engine,
        "masked_softmax_fusion": False,  # attention never materialises scores, on either path
        "persist_layer_norm": transformer_engine,
        "cross_entropy_loss_fusion": cross_entropy is not None,
        "cross_entropy_fusion_impl": cross_entropy or "native",
        "gradient_accumulation_fusion": (on_cuda and active_engines()["fused_weight_gradient_mlp_cuda"]) or weight_gradient,
    }


def transformer_config(recipe: Recipe, device: torch.device) -> TransformerConfig:
    """Return the configuration of the recipe's model; fusions are switched by what is installed."""
    model, parallel = recipe.model, recipe.parallel
    on_cuda = device.type == "cuda"
    transformer_engine = on_cuda and active_engines()["transformer_engine"]
    require_engines(recipe, device)
    config = TransformerConfig(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_attention_heads,
        num_query_groups=model.query_groups,
        **attention(model, transformer_engine),
        ffn_hidden_size=model.ffn_size,
        normalization="RMSNorm" if model.normalization == "rmsnorm" else "LayerNorm",
        layernorm_epsilon=model.normalization_epsilon,
        gated_linear_unit=model.activation != "gelu",
        activation_func=torch.nn.functional.silu if model.activation == "swiglu" else gelu,
        # A module of ours, see activation.py; this is Megatron's name for any module there.
        use_te_activation_func=model.activation == "swiglu" and not transformer_engine and not is_left_out("SwiGLU"),
        add_bias_linear=model.linear_bias,
        hidden_dropout=model.dropout,
        attention_dropout=model.dropout,
        # initial.py fills all weights from (seed, name). Megatron's own initialisation still has to run, with
        # methods that do nothing: it marks which parameters are split, and the gradient norm counts by that mark.
        init_method=leave_as_is,
        output_layer_init_method=leave_as_is,
        embedding_init_method=leave_as_is,
        use_cpu_initialization=not on_cuda,
        params_dtype=DTYPES[model.precision],
        pipeline_dtype=DTYPES[model.precision],
        bf16=model.precision == "bf16",
        fp8=None if model.fp8 == "off" else "hybrid",  # e4m3 forward, e5m2 for gradients
        fp8_recipe="delayed" if model.fp8 == "off" else model.fp8,
        **layout(parallel),
        **experts(model),
        **fusions(model, on_cuda, transformer_engine),
        deterministic_mode=False,
    )
    for name, value in rotary_magnitude(model, transformer_engine).items():
        setattr(config, name, value)
    return config
