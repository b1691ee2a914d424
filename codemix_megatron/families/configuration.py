"""config.json <-> the recipe's `model` block, both plain mappings. Needs neither torch nor transformers."""

from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.families.family import MISSING, Family
from codemix_megatron.families.registry import FAMILIES

__all__ = ["config_of_model", "family_of_config", "model_of_config", "read_config"]

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
    if name not in FAMILIES:
        raise ConversionError(f"{where}/config.json: model_type {name!r}; families that can be read are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def model_of_config(config: dict, where) -> dict:
    """Return the recipe's model block, `vocab_size` included; raises ConversionError naming all that cannot be carried."""
    family = family_of_config(config, where)
    faults, model = [], dict(family.fixed)
    for theirs, ours, default in (*family.config, ("vocab_size", "vocab_size", MISSING)):
        value = config.get(theirs, default)
        if value is MISSING or (value is None and default is MISSING):
            faults.append(f"{theirs} is missing")
        elif is_wrong(ours, value):
            faults.append(f"{theirs} {value!r} is not a number above 0")
        else:
            model[ours] = value
    for key, wanted in family.expected.items():
        if config.get(key, wanted) != wanted:
            faults.append(f"{key} {config[key]!r}; only {wanted!r} can be read")
    kinds = set(config.get("layer_types") or ()) - {"full_attention"}
    if kinds:
        faults.append(f"layer_types {', '.join(sorted(map(str, kinds)))}; only full_attention can be read")
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


def is_wrong(key: str, value) -> bool:
    """Say whether a value of config.json cannot be that of a key; None stands for nothing said."""
    if value is None:
        return False
    if key == "tie_embeddings":
        return not isinstance(value, bool)
    return isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0


def read_rope(config: dict, family: Family, faults: list[str]) -> tuple[float, dict | None]:
    """Return base and scaling of the rotary frequencies; config.json has three ways to write them."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    base = float(rope.get("rope_theta") or config.get("rope_theta") or family.rope_base)
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        faults.append("partial_rotary_factor; only rotary positions over whole heads can be read")
    if kind == "default":
        return base, None
    if kind not in ROPE_SCALING:
        faults.append(f"rotary scaling {kind!r}; only default, {', '.join(ROPE_SCALING)} can be read")
        return base, None
    missing = [theirs for theirs in ROPE_SCALING[kind].values() if theirs not in rope]
    faults += [f"rotary scaling {kind}: {name} is missing" for name in missing]
    return base, {"kind": kind} | {ours: rope.get(theirs) for ours, theirs in ROPE_SCALING[kind].items()}


def config_of_model(family: Family, model: dict, vocab_size: int) -> dict:
    """Return config.json's content; `model` is the recipe's block with all defaults resolved."""
    config = {theirs: model[ours] for theirs, ours, _ in family.config} | family.expected
    rope = {"rope_type": "default"}
    if scaling := model["rope_scaling"]:
        rope = {"rope_type": scaling["kind"]} | {theirs: scaling[ours] for ours, theirs in ROPE_SCALING[scaling["kind"]].items()}
    return {
        **config,
        "vocab_size": vocab_size,
        "rope_parameters": {**rope, "rope_theta": model["rope_base"]},
        "architectures": [family.architecture],
    }
