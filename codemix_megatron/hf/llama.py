"""Llama: what each tensor is called on both sides, and how it is laid out.

Megatron's distributed checkpoints stack the layers of a tensor: `decoder.layers.X` has shape
[layers, ...]. The local and the Transformer Engine layer specs differ in two names, both listed.
"""

from collections.abc import Iterator

import torch

from codemix_megatron.errors import ConversionError
from codemix_megatron.recipe.schema import Model

__all__ = ["MEGATRON_NAMES", "from_hugging_face", "hugging_face_config", "model_from_config", "to_hugging_face"]

LAYERS = "decoder.layers."
# role -> the names megatron-core may give it (local spec, Transformer Engine spec)
MEGATRON_NAMES = {
    "embedding": ("embedding.word_embeddings.weight",),
    "final_norm": ("decoder.final_layernorm.weight",),
    "output": ("output_layer.weight",),
    "attention_norm": (LAYERS + "input_layernorm.weight", LAYERS + "self_attention.linear_qkv.layer_norm_weight"),
    "qkv": (LAYERS + "self_attention.linear_qkv.weight",),
    "attention_output": (LAYERS + "self_attention.linear_proj.weight",),
    "mlp_norm": (LAYERS + "pre_mlp_layernorm.weight", LAYERS + "mlp.linear_fc1.layer_norm_weight"),
    "gate_up": (LAYERS + "mlp.linear_fc1.weight",),
    "down": (LAYERS + "mlp.linear_fc2.weight",),
}
WHOLE = {"embedding": "model.embed_tokens.weight", "final_norm": "model.norm.weight", "output": "lm_head.weight"}
# role -> Hugging Face names inside model.layers.N., in the order `split` returns them
PER_LAYER = {
    "attention_norm": ("input_layernorm.weight",),
    "qkv": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "attention_output": ("self_attn.o_proj.weight",),
    "mlp_norm": ("post_attention_layernorm.weight",),
    "gate_up": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "down": ("mlp.down_proj.weight",),
}


def to_hugging_face(model: Model, vocab_size: int, role: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) on the Hugging Face side for one Megatron tensor; vocabulary padding is cut off."""
    if role in WHOLE:
        yield WHOLE[role], tensor if role == "final_norm" else tensor[:vocab_size]
        return
    for layer, weight in enumerate(tensor):
        for name, part in zip(PER_LAYER[role], split(model, role, weight), strict=True):
            yield f"model.layers.{layer}.{name}", part


def from_hugging_face(model: Model, vocab_size: int, role: str, read) -> torch.Tensor:
    """Return Megatron's tensor for a role; `read(name)` gives a Hugging Face tensor. Padding rows are zero."""
    if role in WHOLE:
        tensor = read(WHOLE[role])
        if role == "final_norm":
            return tensor
        padding = tensor.new_zeros(model.padded_vocab_size(vocab_size) - vocab_size, tensor.shape[1])
        return torch.cat([tensor, padding])
    names = PER_LAYER[role]
    layers = [join(model, role, [read(f"model.layers.{n}.{name}") for name in names]) for n in range(model.num_layers)]
    return torch.stack(layers)


def split(model: Model, role: str, weight: torch.Tensor) -> list[torch.Tensor]:
    """Cut one layer's Megatron matrix into Hugging Face's.

    Megatron keeps query, key and value of one group together: [groups, heads per group + 2, head size, hidden].
    """
    if role == "gate_up":
        return list(weight.chunk(2))
    if role != "qkv":
        return [weight]
    groups, size = model.query_groups, model.head_size
    per_group = model.num_attention_heads // groups
    grouped = weight.reshape(groups, per_group + 2, size, model.hidden_size)
    parts = grouped[:, :per_group], grouped[:, per_group], grouped[:, per_group + 1]
    return [part.reshape(-1, model.hidden_size) for part in parts]


def join(model: Model, role: str, parts: list[torch.Tensor]) -> torch.Tensor:
    """Undo `split`."""
    if role == "gate_up":
        return torch.cat(parts)
    if role != "qkv":
        return parts[0]
    groups, size = model.query_groups, model.head_size
    query, key, value = (part.reshape(groups, -1, size, model.hidden_size) for part in parts)
    return torch.cat([query, key, value], dim=1).reshape(-1, model.hidden_size)


def hugging_face_config(model: Model, vocab_size: int, end_of_document_id: int, dtype: str) -> dict:
    """Return config.json's content as keyword arguments of LlamaConfig."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.ffn_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_attention_heads,
        "num_key_value_heads": model.query_groups,
        "max_position_embeddings": model.sequence_length,
        "rms_norm_eps": model.normalization_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
        "tie_word_embeddings": model.tie_embeddings,
        "initializer_range": model.init_std,
        "bos_token_id": end_of_document_id,
        "eos_token_id": end_of_document_id,
        "dtype": dtype,
        "architectures": ["LlamaForCausalLM"],
    }


def model_from_config(config: dict, where: str) -> Model:
    """Return the recipe's model block for a Hugging Face config; raises ConversionError naming what cannot be carried."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    faults = []
    if config.get("model_type") != "llama":
        faults.append(f"model_type {config.get('model_type')!r}; llama is what can be read")
    if kind != "default":
        faults.append(f"rotary scaling {kind!r}; only default can be read")
    if config.get("attention_bias") or config.get("mlp_bias"):
        faults.append("biases in attention or MLP; only models without can be read")
    if config.get("hidden_act", "silu") != "silu":
        faults.append(f"hidden_act {config['hidden_act']!r}; only silu can be read")
    heads, hidden = config.get("num_attention_heads", 0), config.get("hidden_size", 0)
    if not heads or (config.get("head_dim") or hidden // heads) * heads != hidden:
        faults.append(f"head_dim {config.get('head_dim')} x {heads} heads is not hidden_size {hidden}")
    if faults:
        raise ConversionError(f"{where}/config.json: " + "; ".join(faults))
    return Model(
        num_layers=config["num_hidden_layers"],
        hidden_size=hidden,
        num_attention_heads=heads,
        num_query_groups=config.get("num_key_value_heads") or heads,
        ffn_hidden_size=config["intermediate_size"],
        sequence_length=config["max_position_embeddings"],
        tie_embeddings=config.get("tie_word_embeddings", False),
        rope_base=float(rope.get("rope_theta") or config.get("rope_theta", 10000.0)),
        normalization_epsilon=config["rms_norm_eps"],
        init_std=config.get("initializer_range", 0.02),
    )
