"""The recipe's model block -> the arguments that Megatron-LM keeps in a checkpoint. What it has no argument for is named."""

import argparse
from typing import Any

from packaging.version import Version

from codemix_megatron.conversion.megatron_model_block import model_of_arguments
from codemix_megatron.errors import ConversionError
from codemix_megatron.plan.megatron_positions import LINEAR_SINCE, LLAMA3_FACTOR
from codemix_megatron.recipe.schema import Model, as_plain

__all__ = ["OLDEST", "namespace_of_model"]

OLDEST = "0.16"  # Megatron-LM that an export is for, unless another is named

# Keys that change no logits, or are said otherwise.
OF_TRAINING = ("dropout", "fp8", "precision", "vocab_size", "vocab_padding_multiple", "head_dim", "ffn_hidden_size", "num_query_groups")


def namespace_of_model(model: Model, rows: int, where: Any, oldest: str = OLDEST) -> argparse.Namespace:
    """Return the arguments of a model whose embedding has so many rows; raises ConversionError naming each key they cannot say.

    `oldest` is the first version of Megatron-LM that shall load it: what that one reads and computes without is refused too.
    """
    if model.num_experts is not None:
        raise ConversionError(f"{where}: a mixture of experts is not written for Megatron-LM; export it to Hugging Face")
    said = arguments_of_model(model)
    try:
        back = Model.from_plain(model_of_arguments(said, where, unused="keep"))
    except ConversionError as fault:
        raise ConversionError(f"{where}: Megatron-LM has no such model: {fault}") from None
    plain = as_plain(model)
    lost = [f"model.{key} {plain[key]!r}" for key, value in as_plain(back).items() if key not in OF_TRAINING and value != plain[key]]
    if lost:
        raise ConversionError(f"{where}: Megatron-LM has no argument for " + "\n  ".join([f"{len(lost)} of its keys", *lost]))
    refuse_unused(model, where, oldest)
    return argparse.Namespace(**said, padded_vocab_size=rows, make_vocab_size_divisible_by=model.vocab_padding_multiple)


def refuse_unused(model: Model, where: Any, oldest: str) -> None:
    """Refuse what Megatron-LM has an argument for and does not give to its GPT model; it would compute another model without a word."""
    scaling = model.rope_scaling
    if scaling is None:
        return
    if scaling.kind == "llama3" and scaling.factor != LLAMA3_FACTOR:
        raise ConversionError(
            f"{where}: model.rope_scaling.factor {scaling.factor:g}; Megatron-LM's own GPT model takes {LLAMA3_FACTOR:g} whatever"
            " --rope-scaling-factor says (seen in 0.16.1 to 0.19.0); export it to Hugging Face"
        )
    if scaling.kind == "linear" and Version(oldest) < Version(LINEAR_SINCE):
        raise ConversionError(
            f"{where}: model.rope_scaling linear; Megatron-LM before {LINEAR_SINCE} reads --rotary-seq-len-interpolation-factor and does not"
            f" give it to its GPT model; say --megatron-lm {LINEAR_SINCE} where that or a newer one shall load it"
        )


def arguments_of_model(model: Model) -> dict[str, Any]:
    """Return Megatron-LM's names and values of what a model block says, as far as it has names for it."""
    return {
        "num_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "num_attention_heads": model.num_attention_heads,
        "group_query_attention": model.query_groups != model.num_attention_heads,
        "num_query_groups": model.query_groups,
        "kv_channels": model.head_size,
        "ffn_hidden_size": model.ffn_size,
        "seq_length": model.sequence_length,
        "max_position_embeddings": model.sequence_length,
        "swiglu": True,
        "normalization": "RMSNorm" if model.normalization == "rmsnorm" else "LayerNorm",
        "norm_epsilon": model.normalization_epsilon,
        "layernorm_epsilon": model.normalization_epsilon,  # its name before megatron-core 0.7
        "position_embedding_type": "rope",
        "add_position_embedding": True,
        "use_rotary_position_embeddings": True,
        "rotary_base": int(model.rope_base),
        "rotary_percent": 1.0,
        "rotary_interleaved": model.rotary_interleaved,
        "add_bias_linear": False,
        "add_qkv_bias": model.qkv_bias,
        "qk_layernorm": model.qk_norm,
        "untie_embeddings_and_output_weights": not model.tie_embeddings,
        "init_method_std": model.init_std,
        "attention_dropout": model.dropout,
        "hidden_dropout": model.dropout,
        "num_experts": None,
        "bf16": model.precision == "bf16",
        "fp16": False,
        **scaling_arguments(model),
        **window_arguments(model),
        # What stands here has no layout: every rank reads its part, and Adam and the random numbers begin fresh.
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": 1,
        "virtual_pipeline_model_parallel_size": None,
        "no_save_optim": True,
        "no_save_rng": True,
        "ckpt_format": "torch_dist",
        "consumed_train_samples": 0,
        "consumed_valid_samples": 0,
        "skipped_train_samples": 0,
    }


def scaling_arguments(model: Model) -> dict[str, Any]:
    """Return how rotary frequencies are stretched."""
    scaling = model.rope_scaling
    return {
        "use_rope_scaling": scaling is not None and scaling.kind == "llama3",
        "rope_scaling_factor": scaling.factor if scaling is not None and scaling.kind == "llama3" else LLAMA3_FACTOR,
        "rotary_seq_len_interpolation_factor": int(scaling.factor) if scaling is not None and scaling.kind == "linear" else None,
    }


def window_arguments(model: Model) -> dict[str, Any]:
    """Return which layers see a window only, and which have no rotary positions."""
    return {
        "window_size": (model.sliding_window - 1, 0) if model.sliding_window else None,
        "window_attn_skip_freq": model.full_attention_interval,
        "no_rope_freq": model.no_rope_interval,
    }
