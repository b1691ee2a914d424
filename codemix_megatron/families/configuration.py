"""config.json <-> the recipe's `model` block, both plain mappings. Needs neither torch nor transformers."""

import math
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.families.family import MISSING, Family
from codemix_megatron.families.registry import FAMILIES

__all__ = ["MISSING_PARTS", "config_of_model", "family_of_config", "model_of_config", "read_config"]

# Recipe's key in rope_scaling, Hugging Face's key; by kind.
ROPE_SCALING = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "low_frequency_factor": "low_freq_factor",
        "high_frequency_factor": "high_freq_factor",
        "original_sequence_length": "original_max_position_embeddings",
    },
}

# What models of other types have that no model here computes; said where one of them is refused.
MISSING_PARTS = {
    "cohere2": "layers with a sliding window and layers without rotary positions",
    "deepseek_v2": "multi-latent attention and a mixture of experts",
    "deepseek_v3": "multi-latent attention and a mixture of experts",
    "gemma": "GeGLU and scaled embeddings",
    "gemma2": "GeGLU, scaled embeddings, norms after each block (post-norm) and soft-capping of logits",
    "gemma3": "GeGLU, scaled embeddings, norms after each block (post-norm) and two rotary bases",
    "gemma3_text": "GeGLU, scaled embeddings, norms after each block (post-norm) and two rotary bases",
    "gpt2": "learned absolute positions, LayerNorm with biases and GELU",
    "gpt_bigcode": "learned absolute positions, LayerNorm with biases and GELU",
    "gpt_neox": "LayerNorm with biases, GELU and rotary positions over a part of each head",
    "gpt_oss": "a mixture of experts and attention sinks",
    "granite": "multipliers of embeddings, attention, residuals and logits",
    "mixtral": "a mixture of experts",
    "olmo": "LayerNorm without weights",
    "olmo2": "norms after each block (post-norm) and norms over whole queries and keys",
    "olmo3": "norms after each block (post-norm), norms over whole queries and keys, and layers with a sliding window",
    "olmoe": "a mixture of experts and norms over whole queries and keys",
    "phi3": "query, key and value (and gate and up) stored as one tensor, and longrope scaling",
    "qwen2_moe": "a mixture of experts",
    "qwen3_moe": "a mixture of experts",
    "smollm3": "layers without rotary positions",
    "starcoder2": "LayerNorm with biases, biases of linear layers and GELU",
}

# Keys of the model block that need not be whole numbers.
NUMBERS = ("normalization_epsilon", "init_std", "logit_scale")


def read_config(folder) -> dict:
    """Return config.json of a model folder; raises ConversionError when it cannot be read."""
    import json

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
    if not isinstance(name, str) or name not in FAMILIES:
        missing = MISSING_PARTS.get(name) if isinstance(name, str) else None
        why = f"; no model here has {missing}" if missing else ""
        raise ConversionError(f"{where}/config.json: model_type {name!r}{why}; families that can be read are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def model_of_config(config: dict, where) -> dict:
    """Return the recipe's model block, `vocab_size` included; raises ConversionError naming all that cannot be carried."""
    family = family_of_config(config, where)
    faults: list[str] = []
    model = dict(family.fixed) | read_shape(config, family, faults)
    for key, wanted in family.expected.items():
        if config.get(key, wanted) != wanted:
            faults.append(f"{key} {config[key]!r}; only {wanted!r} can be read")
    faults += layer_kind_faults(config.get("layer_types"))
    model["rope_base"], model["rope_scaling"] = read_rope(config, family, faults)
    if not faults and model.get("num_query_groups") is None:
        model["num_query_groups"] = model["num_attention_heads"]
    if not faults and model.get("head_dim") in (None, model["hidden_size"] / model["num_attention_heads"]):
        model.pop("head_dim", None)
        if model["hidden_size"] % model["num_attention_heads"]:
            faults.append(f"hidden_size {model['hidden_size']} does not divide into {model['num_attention_heads']} heads")
    if faults:
        raise ConversionError(f"{where}/config.json: " + "\n  ".join(faults))
    return {key: value for key, value in model.items() if value is not None}


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
            model[ours] = value
    return model


def misfit(key: str, value) -> str | None:
    """Return what a value of config.json should be when it cannot be that of a key; None stands for nothing said."""
    if value is None:
        return None
    if key == "tie_embeddings":
        return None if isinstance(value, bool) else "true or false"
    if key in NUMBERS:
        return None if is_number(value) else "a number above 0"
    return None if isinstance(value, int) and is_number(value) else "a whole number above 0"


def is_number(value) -> bool:
    """Say whether a value of JSON is a finite number above 0; JSON knows true and NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def layer_kind_faults(kinds) -> list[str]:
    """Check that all layers attend alike."""
    if kinds is None:
        return []
    if not isinstance(kinds, list):
        return [f"layer_types {kinds!r} is not a list of words"]
    strangers = sorted({str(kind) for kind in kinds} - {"full_attention"})
    return [f"layer_types {', '.join(strangers)}; only full_attention can be read"] if strangers else []


def read_rope(config: dict, family: Family, faults: list[str]) -> tuple[float, dict | None]:
    """Return base and scaling of the rotary frequencies; config.json has three ways to write them."""
    rope = rope_block(config, faults)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    base = next(said for said in (rope.get("rope_theta"), config.get("rope_theta"), family.rope_base) if said is not None)
    if not is_number(base):
        faults.append(f"rope_theta {base!r} is not a number above 0")
        base = family.rope_base
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        faults.append("partial_rotary_factor; only rotary positions over whole heads can be read")
    if kind == "default":
        return float(base), None
    if not isinstance(kind, str) or kind not in ROPE_SCALING:
        faults.append(f"rotary scaling {kind!r}; only default, {', '.join(ROPE_SCALING)} can be read")
        return float(base), None
    for name in ROPE_SCALING[kind].values():
        if name not in rope:
            faults.append(f"rotary scaling {kind}: {name} is missing")
        elif not is_number(rope[name]):
            faults.append(f"rotary scaling {kind}: {name} {rope[name]!r} is not a number above 0")
    return float(base), {"kind": kind} | {ours: rope.get(theirs) for ours, theirs in ROPE_SCALING[kind].items()}


def rope_block(config: dict, faults: list[str]) -> dict:
    """Return the mapping that says how positions rotate; two that say different things are a fault."""
    found = {key: config[key] for key in ("rope_parameters", "rope_scaling") if config.get(key) is not None}
    faults += [f"{key} {value!r} is not a mapping" for key, value in found.items() if not isinstance(value, dict)]
    blocks = [value for value in found.values() if isinstance(value, dict)]
    if len(blocks) == 2 and differing_rope(config, *blocks):
        faults.append("rope_parameters and rope_scaling say different things; keep the one that is right")
    return blocks[0] if blocks else {}


def differing_rope(config: dict, parameters: dict, scaling: dict) -> bool:
    """Say whether the new and the old way of writing rotary frequencies contradict each other."""
    new, old = ({**block, "rope_type": block.get("rope_type") or block.get("type")} for block in (parameters, scaling))
    old.setdefault("rope_theta", config.get("rope_theta", new.get("rope_theta")))
    return any(new[key] != old[key] for key in (new.keys() & old.keys()) - {"type"})


def config_of_model(family: Family, model: dict, vocab_size: int) -> dict:
    """Return config.json's content; `model` is the recipe's block with all defaults resolved."""
    config = {theirs: model[ours] for theirs, ours, _ in family.config} | family.expected
    rope: dict = {"rope_type": "default"}
    if scaling := model["rope_scaling"]:
        rope = {"rope_type": scaling["kind"]} | {theirs: scaling[ours] for ours, theirs in ROPE_SCALING[scaling["kind"]].items()}
    return {
        **config,
        "vocab_size": vocab_size,
        "rope_parameters": {**rope, "rope_theta": model["rope_base"]},
        # What readers before transformers 5 look at; without it they take base 10000 and no scaling, in silence.
        "rope_theta": model["rope_base"],
        "rope_scaling": rope if scaling else None,
        "architectures": [family.architecture],
    }
