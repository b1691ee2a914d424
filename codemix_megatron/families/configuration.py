"""config.json <-> the recipe's `model` block, both plain mappings. Needs neither torch nor transformers."""

import json
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.families.family import MISSING, Family
from codemix_megatron.families.layer_kinds import layer_kinds_of_model, read_layer_kinds
from codemix_megatron.families.registry import all_families
from codemix_megatron.families.rope_keys import is_number, read_rope, rope_of_model

__all__ = ["MISSING_PARTS", "config_of_model", "family_of_config", "model_of_config", "read_config"]

# What models of other types have that no model here computes; said where one of them is refused.
MISSING_PARTS = {
    "deepseek_v2": "multi-latent attention and a mixture of experts",
    "deepseek_v3": "multi-latent attention and a mixture of experts",
    "gemma3": "an encoder of images beside its text model (which alone is a gemma3_text)",
    "gpt2": "learned absolute positions, LayerNorm with biases and GELU",
    "gpt_bigcode": "learned absolute positions, LayerNorm with biases and GELU",
    "gpt_neox": "LayerNorm with biases, GELU and rotary positions over a part of each head",
    "gpt_oss": "a mixture of experts and attention sinks",
    "granitemoe": "a mixture of experts in Granite's block",
    "granitemoehybrid": "a mixture of experts and state-space layers",
    "olmo": "LayerNorm without weights",
    "phi": "LayerNorm with biases, biases of linear layers and GELU",
    "phimoe": "a mixture of experts and longrope scaling",
    "qwen2_moe": "experts that every token goes through",
}

# Keys that any config.json may have and that turn a decoder into something else: what they say of the models here.
EVERYWHERE = {"is_causal": True, "use_bidirectional_attention": False}

# Keys of the model block that need not be whole numbers.
NUMBERS = (
    "normalization_epsilon",
    "init_std",
    "logit_scale",
    "embedding_multiplier",
    "residual_multiplier",
    "attention_scale",
    "expert_balance",
    "attention_softcap",
    "logit_softcap",
)
OR_NOTHING = ("expert_balance",)  # these may be 0
YES_OR_NO = ("tie_embeddings", "linear_bias", "normalize_experts")


def read_config(folder) -> dict:
    """Return config.json of a model folder; raises ConversionError when it cannot be read."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise ConversionError(f"{path}: cannot be read ({reason}); give a Hugging Face model folder") from None
    if not isinstance(config, dict):
        raise ConversionError(f"{path}: holds no mapping; give a Hugging Face model folder")
    return config


def family_of_config(config: dict, where) -> Family:
    """Return the family of config.json's model_type; raises ConversionError when there is none."""
    name = config.get("model_type")
    if not isinstance(name, str) or name not in all_families():
        missing = MISSING_PARTS.get(name) if isinstance(name, str) else None
        why = f"; no model here has {missing}" if missing else ""
        raise ConversionError(f"{where}/config.json: model_type {name!r}{why}; families that can be read are {', '.join(all_families())}")
    return all_families()[name]


def model_of_config(config: dict, where) -> dict:
    """Return the recipe's model block, `vocab_size` included; raises ConversionError naming all that cannot be converted."""
    family = family_of_config(config, where)
    faults: list[str] = []
    config = config | {key: config[other] for key, other in family.aliases.items() if key not in config and other in config}
    model = dict(family.fixed) | read_shape(config, family, faults)
    for key, wanted in (family.expected | EVERYWHERE).items():
        if config.get(key, wanted) != wanted and (key not in EVERYWHERE or config[key] is not None):
            faults.append(f"{key} {config[key]!r}; only {wanted!r} can be read")
    for key, other in family.same.items():
        if config.get(key, False) != config.get(other, False):
            faults.append(f"{key} {config.get(key)!r} and {other} {config.get(other)!r}; only both or neither can be read")
    read_layer_kinds(config, family, model, faults)
    model |= read_rope(config, family, faults)
    if family.scaled_embeddings and not faults:
        model["embedding_multiplier"] = model["hidden_size"] ** 0.5
    if not faults and model.get("num_query_groups") is None:
        model["num_query_groups"] = model["num_attention_heads"]
    refuse_other_heads(config, family, model, faults)
    if not faults and model.get("head_dim") in (None, model["hidden_size"] / model["num_attention_heads"]):
        model.pop("head_dim", None)
        if model["hidden_size"] % model["num_attention_heads"]:
            faults.append(f"hidden_size {model['hidden_size']} does not divide into {model['num_attention_heads']} heads")
    if faults:
        raise ConversionError(f"{where}/config.json: " + "\n  ".join(faults))
    return {key: value for key, value in model.items() if value is not None}


def refuse_other_heads(config: dict, family: Family, model: dict, faults: list[str]) -> None:
    """Heads of a width of their own, in a family whose models here have none: transformers builds them for any config.json that says so."""
    width, is_read = config.get("head_dim"), any(key == "head_dim" for _, key, _ in family.config)
    if not faults and not is_read and width not in (None, model["hidden_size"] / model["num_attention_heads"]):
        faults.append(f"head_dim {width!r}; only hidden_size / num_attention_heads can be read of {family.model_type}")


def read_shape(config: dict, family: Family, faults: list[str]) -> dict:
    """Return the family's keys of the model block; what is missing or of another kind becomes a fault."""
    model = {}
    for theirs, ours, default in (*family.config, ("vocab_size", "vocab_size", MISSING)):
        value = config.get(theirs, default)
        if value is MISSING or (value is None and default is MISSING):
            faults.append(f"{theirs} is missing")
        elif wanted := misfit(ours, value):
            faults.append(f"{theirs} {value!r} is not {wanted}")
        else:
            model[ours] = 1 / value if theirs in family.inverted else value**-0.5 if theirs in family.inverse_squares else value
    return model


def misfit(key: str, value) -> str | None:
    """Return what a value of config.json should be when it cannot be that of a key; None stands for nothing said."""
    if value is None:
        return None
    if key in YES_OR_NO:
        return None if isinstance(value, bool) else "true or false"
    if key in OR_NOTHING and value == 0 and not isinstance(value, bool):
        return None
    if key in NUMBERS:
        return None if is_number(value) else "a number above 0"
    return None if isinstance(value, int) and is_number(value) else "a whole number above 0"


def config_of_model(family: Family, model: dict, vocab_size: int) -> dict:
    """Return config.json's content; `model` is the recipe's block with all defaults resolved."""
    config = {theirs: model[ours] for theirs, ours, _ in family.config} | family.expected | layer_kinds_of_model(family, model)
    config |= {key: config[other] for key, other in family.same.items()} | {other: config[key] for key, other in family.aliases.items()}
    if family.says_head_dim:
        config["head_dim"] = head_width(model)
    for name in family.inverted:
        config[name] = float(f"{1 / config[name]:.12g}")
    scale = model.get("attention_scale") or head_width(model) ** -0.5
    if "attention_multiplier" in config:
        config["attention_multiplier"] = scale
    for name in family.inverse_squares:
        config[name] = round(scale**-2)
    return {**config, **rope_of_model(family, model), "vocab_size": vocab_size, "architectures": [family.architecture]}


def head_width(model: dict) -> int:
    """Return the width of one attention head of a model block."""
    return model["head_dim"] or model["hidden_size"] // model["num_attention_heads"]
