"""Faults in the shape of a model."""

from codemix_megatron.recipe.block_checks import block_faults
from codemix_megatron.recipe.expert_checks import expert_faults
from codemix_megatron.recipe.positive import not_positive
from codemix_megatron.recipe.schema import Recipe

__all__ = ["model_faults"]


def model_faults(recipe: Recipe) -> list[str]:
    """Check the shape by itself."""
    model = recipe.model
    faults = not_positive(
        model,
        "model",
        [
            "num_layers",
            "hidden_size",
            "num_attention_heads",
            "num_query_groups",
            "ffn_hidden_size",
            "sequence_length",
            "head_dim",
            "sliding_window",
            "full_attention_interval",
            "no_rope_interval",
            "num_experts",
            "experts_per_token",
            "vocab_size",
            "vocab_padding_multiple",
        ],
    )
    if faults:
        return faults
    heads, groups = model.num_attention_heads, model.query_groups
    if model.head_dim is None and model.hidden_size % heads:
        faults.append(f"model.hidden_size: {model.hidden_size} does not divide into {heads} attention heads")
    elif model.head_size % 2:
        key = "hidden_size" if model.head_dim is None else "head_dim"
        faults.append(f"model.{key}: heads of {model.head_size} are odd, rotary positions need an even size")
    if heads % groups:
        faults.append(f"model.num_query_groups: {heads} attention heads do not divide into {groups} groups")
    if not 0 <= model.dropout < 1:
        faults.append(f"model.dropout: found {model.dropout}, must be at least 0 and below 1")
    return faults + block_faults(model) + expert_faults(model)
