"""Megatron-LM's arguments, as a checkpoint holds them, -> the recipe's model block. What this package has no model for is named."""

from typing import Any

from codemix_megatron.errors import ConversionError
from codemix_megatron.plan.megatron_positions import LINEAR_SINCE, LLAMA3_FACTOR, LLAMA3_NUMBERS

__all__ = ["model_of_arguments"]

REQUIRED = ("num_layers", "hidden_size", "num_attention_heads", "ffn_hidden_size", "seq_length")
# Argument -> what it may be; anything else computes something no model here computes. An argument that is not there has its default.
ONLY: dict[str, tuple] = {
    "swiglu": (True,),
    "normalization": ("RMSNorm",),
    "position_embedding_type": ("rope",),
    "rotary_percent": (1.0, None),
    "add_bias_linear": (False,),
    "num_experts": (None, 0),
    "multi_latent_attention": (False, None),
    "squared_relu": (False, None),
    "quick_geglu": (False, None),
    "openai_gelu": (False, None),
    "apply_layernorm_1p": (False, None),
    "apply_residual_connection_post_layernorm": (False, None),
    "is_hybrid_model": (False, None),
    "hybrid_override_pattern": (None,),
    "hybrid_layer_pattern": (None,),
    "heterogeneous_layers_config_path": (None,),
    "heterogeneous_layers_config_encoded_json": (None,),
    "experimental_attention_variant": (None,),
    "mtp_num_layers": (None, 0),
    "attention_output_gate": (False, None),
    "qk_l2_norm": (False, None),
    "softmax_type": ("vanilla", None),
    "use_mup": (False, None),
    "glu_linear_offset": (0.0, None),
    "activation_func_clamp_value": (None,),
    "moe_layer_freq": (1, None),
}
INTERVALS = ("no_rope_freq", "window_attn_skip_freq")  # every so many-th layer is otherwise
# What Megatron-LM takes for an argument that old checkpoints lack, where that is not what is allowed.
DEFAULTS: dict[str, Any] = {
    "swiglu": False,
    "normalization": "LayerNorm",
    "position_embedding_type": "learned_absolute",
    "add_bias_linear": True,
}


def model_of_arguments(arguments: dict[str, Any], where: Any, unused: str = "refuse") -> dict[str, Any]:
    """Return the recipe's model block without vocabulary; raises ConversionError naming every argument that cannot be converted.

    `unused`: what becomes of arguments that Megatron-LM reads and computes without: refuse, keep or drop.
    """
    unheard = unused_arguments(arguments)
    if unused == "drop":
        arguments = {**arguments, **dict.fromkeys(unheard)}
    faults = [f"{name} is missing" for name in REQUIRED if not isinstance(arguments.get(name), int)]
    for name, allowed in ONLY.items():
        value = arguments.get(name, DEFAULTS.get(name, allowed[-1]))
        if value not in allowed:
            faults.append(f"{name} {value!r}; only {allowed[0]!r} can be converted")
    if arguments.get("use_rope_scaling") and arguments.get("rotary_seq_len_interpolation_factor"):
        faults.append("use_rope_scaling and rotary_seq_len_interpolation_factor together")
    faults += unheard.values() if unused == "refuse" else ()
    for name in INTERVALS:
        value = arguments.get(name)
        if value is not None and not (isinstance(value, int) and value > 1):
            faults.append(f"{name} {value!r}; only a number of layers above 1 can be converted")
    if faults:
        raise ConversionError(f"{where}, its arguments: " + "\n  ".join([f"{len(faults)} faults", *faults]))
    return {
        "num_layers": arguments["num_layers"],
        "hidden_size": arguments["hidden_size"],
        "num_attention_heads": arguments["num_attention_heads"],
        "num_query_groups": groups_of(arguments),
        "ffn_hidden_size": arguments["ffn_hidden_size"],
        "sequence_length": arguments["seq_length"],
        **head_size_of(arguments),
        "qkv_bias": bool(arguments.get("add_qkv_bias")),
        "qk_norm": bool(arguments.get("qk_layernorm")),
        "tie_embeddings": not arguments.get("untie_embeddings_and_output_weights"),
        "rope_base": float(arguments.get("rotary_base") or 10000),
        "rope_scaling": scaling_of(arguments),
        "rotary_interleaved": bool(arguments.get("rotary_interleaved")),
        "sliding_window": window_of(arguments),
        "full_attention_interval": arguments.get("window_attn_skip_freq") if window_of(arguments) else None,
        "no_rope_interval": arguments.get("no_rope_freq"),
        "normalization_epsilon": float(arguments.get("norm_epsilon") or arguments.get("layernorm_epsilon") or 1e-5),
        "init_std": float(arguments.get("init_method_std") or 0.02),
        "precision": "bf16" if arguments.get("bf16") else "fp32",
    }


def unused_arguments(arguments: dict[str, Any]) -> dict[str, str]:
    """Return the arguments that Megatron-LM reads and does not give to its GPT model, with what that means for whoever imports them."""
    choose = "say --unused-arguments keep where the weights were made for it ({}), or drop where pretrain_gpt.py trained them without"
    found = {}
    factor = arguments.get("rope_scaling_factor") or LLAMA3_FACTOR
    if arguments.get("use_rope_scaling") and factor != LLAMA3_FACTOR:
        does = f"Megatron-LM's own GPT model takes {LLAMA3_FACTOR:g} whatever it says"
        found["rope_scaling_factor"] = f"rope_scaling_factor {factor!r}: {does}; " + choose.format("converted from such a model")
    factor = arguments.get("rotary_seq_len_interpolation_factor")
    if factor and factor != 1:
        name, does = "rotary_seq_len_interpolation_factor", f"Megatron-LM before {LINEAR_SINCE} does not give it to its GPT model"
        found[name] = f"{name} {factor!r}: {does}; " + choose.format(f"trained by {LINEAR_SINCE} or newer, or converted from such a model")
    return found


def groups_of(arguments: dict[str, Any]) -> int:
    """Return the number of key/value heads; the argument says 1 where there are no groups."""
    return arguments["num_query_groups"] if arguments.get("group_query_attention") else arguments["num_attention_heads"]


def head_size_of(arguments: dict[str, Any]) -> dict[str, int]:
    """Return head_dim where heads do not add up to the width."""
    size = arguments.get("kv_channels")
    return {"head_dim": size} if size and size * arguments["num_attention_heads"] != arguments["hidden_size"] else {}


def scaling_of(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return how rotary frequencies are stretched: Llama 3's way has fixed numbers in Megatron-LM but for its factor."""
    if arguments.get("use_rope_scaling"):
        return {"kind": "llama3", "factor": float(arguments.get("rope_scaling_factor") or LLAMA3_FACTOR), **LLAMA3_NUMBERS}
    factor = arguments.get("rotary_seq_len_interpolation_factor")
    return {"kind": "linear", "factor": float(factor)} if factor and factor != 1 else None


def window_of(arguments: dict[str, Any]) -> int | None:
    """Return the tokens a token sees, itself included; Megatron-LM counts those before it."""
    window = arguments.get("window_size")
    return window[0] + 1 if window and window[0] >= 0 else None
