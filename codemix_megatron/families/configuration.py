"""config.json <-> the recipe's `model` block, both plain mappings. Needs neither torch nor transformers."""

import json
import math
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.families.family import MISSING, Family
from codemix_megatron.families.layer_kinds import layer_kinds_of_model, read_layer_kinds
from codemix_megatron.families.registry import all_families

__all__ = ["MISSING_PARTS", "config_of_model", "family_of_config", "model_of_config", "read_config"]

# Recipe's key in rope_scaling, Hugging Face's key; by kind.
ROPE_SCALING = {
    "linear": {"factor": "factor"},
    "yarn": {"factor": "factor", "original_sequence_length": "original_max_position_embeddings"},
    "llama3": {
        "factor": "factor",
        "low_frequency_factor": "low_freq_factor",
        "high_frequency_factor": "high_freq_factor",
        "original_sequence_length": "original_max_position_embeddings",
    },
}

# Those that may be left out.
OPTIONAL_SCALING = {
    "yarn": {"fast_rotations": "beta_fast", "slow_rotations": "beta_slow", "attention_factor": "attention_factor"},
}

# What models of other types have that no model here computes; said where one of them is refused.
MISSING_PARTS = {
    "deepseek_v2": "multi-latent attention and a mixture of experts",
    "deepseek_v3": "multi-latent attention and a mixture of experts",
    "gemma": "GeGLU and norms with weights of 1 + w",
    "gemma2": "GeGLU, norms with weights of 1 + w, norms before and after each block at once (pre- and post-norm), and soft-capping of scores and logits",
    "gemma3": "GeGLU, norms with weights of 1 + w, norms before and after each block at once (pre- and post-norm), and two rotary bases",
    "gemma3_text": "GeGLU, norms with weights of 1 + w, norms before and after each block at once (pre- and post-norm), and two rotary bases",
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
    config = rope_of_all_layers(config, family, faults)
    model["rope_base"], model["rope_scaling"] = read_rope(config, family, faults)
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
            model[ours] = 1 / value if theirs in family.inverted else value
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


def is_number(value) -> bool:
    """Say whether a value of JSON is a finite number above 0; JSON knows true and NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


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
    if not family.scaled_rope:
        faults.append(f"rotary scaling {kind!r}; only default can be read of {family.model_type}")
        return float(base), None
    refuse_two_contexts(config, rope, kind, faults)
    return float(base), read_scaling(rope, kind, faults)


def refuse_two_contexts(config: dict, rope: dict, kind: str, faults: list[str]) -> None:
    """Name a first context that stands beside the scaling and is another: transformers 5 takes that one, transformers 4 the scaling's."""
    name = "original_max_position_embeddings"
    beside = config.get(name)
    if beside is not None and name in ROPE_SCALING[kind].values() and beside != rope.get(name):
        faults.append(f"{name} {beside!r} beside {rope.get(name)!r} in the rotary scaling; keep the one that is right")


def read_scaling(rope: dict, kind: str, faults: list[str]) -> dict:
    """Return the recipe's rope_scaling of one kind."""
    optional = {ours: theirs for ours, theirs in OPTIONAL_SCALING.get(kind, {}).items() if rope.get(theirs) is not None}
    for name in (*ROPE_SCALING[kind].values(), *optional.values()):
        if name not in rope:
            faults.append(f"rotary scaling {kind}: {name} is missing")
        elif not is_number(rope[name]):
            faults.append(f"rotary scaling {kind}: {name} {rope[name]!r} is not a number above 0")
    if kind == "yarn" and rope.get("truncate", True) is not True:
        faults.append(f"rotary scaling yarn: truncate {rope['truncate']!r}; only a ramp between whole channels can be read")
    scaling = {"kind": kind} | {ours: rope.get(theirs) for ours, theirs in (ROPE_SCALING[kind] | optional).items()}
    if not faults and kind == "yarn" and "attention_factor" not in optional and rope.get("mscale") and rope.get("mscale_all_dim"):
        scaling["attention_factor"] = yarn_magnitude(rope, "mscale") / yarn_magnitude(rope, "mscale_all_dim")
    return scaling


def yarn_magnitude(rope: dict, name: str) -> float:
    """Return how DeepSeek's two keys of YaRN scale attention."""
    return 1.0 if rope["factor"] <= 1 else 0.1 * rope[name] * math.log(rope["factor"]) + 1.0


def rope_of_all_layers(config: dict, family: Family, faults: list[str]) -> dict:
    """Return config.json with one block of rotary parameters, where a family has one for each kind of layer and they are alike."""
    blocks = config.get("rope_parameters")
    if not family.rope_by_layer_type or not isinstance(blocks, dict) or not any(isinstance(block, dict) for block in blocks.values()):
        return config
    different = {json.dumps(block, sort_keys=True) for block in blocks.values()}
    if len(different) > 1:
        faults.append("rope_parameters: layers of different kinds rotate differently; only one way for all can be read")
    return config | {"rope_parameters": next(iter(blocks.values()))}


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
    config = {theirs: model[ours] for theirs, ours, _ in family.config} | family.expected | layer_kinds_of_model(family, model)
    config |= {key: config[other] for key, other in family.same.items()} | {other: config[key] for key, other in family.aliases.items()}
    if family.says_head_dim:
        config["head_dim"] = head_width(model)
    for name in family.inverted:
        config[name] = float(f"{1 / config[name]:.12g}")
    if "attention_multiplier" in config and config["attention_multiplier"] is None:
        config["attention_multiplier"] = head_width(model) ** -0.5
    rope: dict = {"rope_type": "default"}
    if scaling := model["rope_scaling"]:
        names = ROPE_SCALING[scaling["kind"]] | OPTIONAL_SCALING.get(scaling["kind"], {})
        rope = {"rope_type": scaling["kind"]} | {theirs: scaling[ours] for ours, theirs in names.items() if scaling.get(ours) is not None}
    parameters = {**rope, "rope_theta": model["rope_base"]}
    if family.rope_by_layer_type:
        parameters = {kind: dict(parameters) for kind in ("full_attention", "sliding_attention")}
    return {
        **config,
        "vocab_size": vocab_size,
        "rope_parameters": parameters,
        # What readers before transformers 5 look at; without it they take base 10000 and no scaling, in silence.
        "rope_theta": model["rope_base"],
        "rope_scaling": rope if scaling else None,
        "architectures": [family.architecture],
    }


def head_width(model: dict) -> int:
    """Return the width of one attention head of a model block."""
    return model["head_dim"] or model["hidden_size"] // model["num_attention_heads"]
