"""How positions rotate: config.json's keys, old and new <-> the recipe's. Needs neither torch nor transformers."""

import json
import math
from typing import Any

from codemix_megatron.families.family import Family
from codemix_megatron.families.layer_kinds import FULL, WINDOWED

__all__ = ["is_number", "read_rope", "rope_of_model"]

CONTEXT, FIRST_CONTEXT = "max_position_embeddings", "original_max_position_embeddings"

# Recipe's key in rope_scaling, Hugging Face's key; by kind.
ROPE_SCALING = {
    "linear": {"factor": "factor"},
    "yarn": {"factor": "factor", "original_sequence_length": FIRST_CONTEXT},
    "longrope": {"short_factors": "short_factor", "long_factors": "long_factor"},
    "llama3": {
        "factor": "factor",
        "low_frequency_factor": "low_freq_factor",
        "high_frequency_factor": "high_freq_factor",
        "original_sequence_length": FIRST_CONTEXT,
    },
}

# Those that may be left out.
OPTIONAL_SCALING = {
    "yarn": {"fast_rotations": "beta_fast", "slow_rotations": "beta_slow", "attention_factor": "attention_factor"},
}


def is_number(value) -> bool:
    """Say whether a value of JSON is a finite number above 0; JSON knows true and NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def read_rope(config: dict, family: Family, faults: list[str]) -> dict:
    """Return the keys of the model block that say how positions rotate."""
    if family.window_rope_base is not None:
        return read_two_ropes(config, family, faults)
    config = rope_of_all_layers(config, family, faults)
    base, scaling = read_base_and_scaling(config, family, faults)
    return {"rope_base": base, "rope_scaling": scaling} | read_rotary_share(config, family, faults)


def read_rotary_share(config: dict, family: Family, faults: list[str]) -> dict:
    """Return which share of each head turns."""
    share = rope_block(config, []).get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if share is None or not family.partial_rope:
        return {}
    if not is_number(share) or share > 1:
        faults.append(f"partial_rotary_factor {share!r} is not a number above 0 and up to 1")
        return {}
    return {"rotary_share": float(share)}


def read_two_ropes(config: dict, family: Family, faults: list[str]) -> dict:
    """Return both bases of a family whose layers with a window have their own; config.json has two ways to write them, too."""
    blocks = config.get("rope_parameters")
    blocks = {FULL: {}, WINDOWED: {}} if blocks is None else blocks
    if not isinstance(blocks, dict) or not all(isinstance(blocks.get(kind, {}), dict) for kind in (FULL, WINDOWED)):
        faults.append(f"rope_parameters {blocks!r} has not a mapping for {FULL} and one for {WINDOWED}")
        return {}
    whole, near = (blocks.get(kind) or {} for kind in (FULL, WINDOWED))
    base, scaling = read_base_and_scaling({**config, "rope_parameters": whole or None}, family, faults)
    if (kind := near.get("rope_type", "default")) != "default":
        faults.append(f"rotary scaling {kind!r} of {WINDOWED}; only default can be read")
    own: Any = near.get("rope_theta", config.get("rope_local_base_freq", family.window_rope_base))
    if not is_number(own):
        faults.append(f"rope_theta {own!r} of {WINDOWED} is not a number above 0")
        return {}
    return {"rope_base": base, "rope_scaling": scaling, "window_rope_base": float(own)}


def read_base_and_scaling(config: dict, family: Family, faults: list[str]) -> tuple[float, dict | None]:
    """Return base and scaling of the rotary frequencies; config.json has three ways to write them."""
    rope = rope_block(config, faults)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    base = next(said for said in (rope.get("rope_theta"), config.get("rope_theta"), family.rope_base) if said is not None)
    if not is_number(base):
        faults.append(f"rope_theta {base!r} is not a number above 0")
        base = family.rope_base
    if not family.partial_rope and rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        faults.append("partial_rotary_factor; only rotary positions over whole heads can be read")
    if kind == "default":
        return float(base), None
    if not isinstance(kind, str) or kind not in ROPE_SCALING:
        faults.append(f"rotary scaling {kind!r}; only default, {', '.join(ROPE_SCALING)} can be read")
        return float(base), None
    if kind not in family.rope_scalings:
        faults.append(f"rotary scaling {kind!r}; only {', '.join(('default', *family.rope_scalings))} can be read of {family.model_type}")
        return float(base), None
    if kind == "longrope":
        return float(base), read_longrope(config, rope, faults)
    refuse_two_contexts(config, rope, kind, faults)
    return float(base), read_scaling(rope, kind, faults)


def refuse_two_contexts(config: dict, rope: dict, kind: str, faults: list[str]) -> None:
    """Name a first context that stands beside the scaling and is another: transformers 5 takes that one, transformers 4 the scaling's."""
    beside = config.get(FIRST_CONTEXT)
    if beside is not None and FIRST_CONTEXT in ROPE_SCALING[kind].values() and beside != rope.get(FIRST_CONTEXT):
        faults.append(f"{FIRST_CONTEXT} {beside!r} beside {rope.get(FIRST_CONTEXT)!r} in the rotary scaling; keep the one that is right")


def read_longrope(config: dict, rope: dict, faults: list[str]) -> dict:
    """Return longrope's scaling; transformers takes its factor from both contexts, which stand beside it."""
    first, longest = (config.get(key) for key in (FIRST_CONTEXT, CONTEXT))
    first = rope.get(FIRST_CONTEXT) if first is None else first
    for name, value in ((FIRST_CONTEXT, first), (CONTEXT, longest)):
        if not isinstance(value, int) or not is_number(value):
            faults.append(f"rotary scaling longrope: {name} {value!r} is not a whole number above 0")
    for name in ("short_factor", "long_factor"):
        if not isinstance(rope.get(name), list) or not all(map(is_number, rope[name])):
            faults.append(f"rotary scaling longrope: {name} is not a list of numbers above 0")
    if rope.get(FIRST_CONTEXT, first) != first:
        faults.append(f"{FIRST_CONTEXT} {first!r} beside {rope[FIRST_CONTEXT]!r} in the rotary scaling; keep the one that is right")
    for name in ("factor", "attention_factor"):
        if rope.get(name) is not None:
            faults.append(f"rotary scaling longrope: {name} {rope[name]!r}; only what follows from both contexts can be read")
    if faults or first is None or longest is None:
        return {}
    factors = {"short_factors": list(map(float, rope["short_factor"])), "long_factors": list(map(float, rope["long_factor"]))}
    return {"kind": "longrope", "factor": longest / first, "original_sequence_length": first, **factors}


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


def rope_of_model(family: Family, model: dict) -> dict:
    """Return config.json's keys for how positions rotate, in every way that readers look for."""
    rope: dict = {"rope_type": "default"}
    if scaling := model["rope_scaling"]:
        names = ROPE_SCALING[scaling["kind"]] | OPTIONAL_SCALING.get(scaling["kind"], {})
        rope = {"rope_type": scaling["kind"]} | {theirs: scaling[ours] for ours, theirs in names.items() if scaling.get(ours) is not None}
        if scaling["kind"] == "longrope":
            return longrope_of_model(model, rope)
    parameters = {**rope, "rope_theta": model["rope_base"]} | share_of_model(family, model)
    if family.rope_by_layer_type:
        parameters = {kind: dict(parameters) for kind in (FULL, WINDOWED)}
    # What readers before transformers 5 look at; without it they take base 10000 and no scaling, in silence.
    older = {"rope_theta": model["rope_base"], "rope_scaling": rope if scaling else None}
    older |= share_of_model(family, model) if model.get("rotary_share", 1.0) != 1 else {}
    if family.window_rope_base is not None:
        own = model["window_rope_base"] or model["rope_base"]
        parameters[WINDOWED] = {"rope_type": "default", "rope_theta": own}
        older["rope_local_base_freq"] = own
    return {"rope_parameters": parameters, **older}


def share_of_model(family: Family, model: dict) -> dict:
    """Return config.json's key for the share of a head that turns, where a family has one."""
    return {"partial_rotary_factor": model.get("rotary_share", 1.0)} if family.partial_rope else {}


def longrope_of_model(model: dict, rope: dict) -> dict:
    """Return config.json's keys for longrope, whose factor transformers takes from both contexts; version 4 wants three keys and no more."""
    scaling, share = model["rope_scaling"], {"partial_rotary_factor": model["rotary_share"]}
    factors = {name: list(rope[name]) for name in ("short_factor", "long_factor")}
    first = scaling["original_sequence_length"]
    parameters = {"rope_type": "longrope", "rope_theta": model["rope_base"], FIRST_CONTEXT: first, **factors, **share}
    older = {"rope_theta": model["rope_base"], "rope_scaling": {"type": "longrope", **factors}, **share}
    return {"rope_parameters": parameters, **older, FIRST_CONTEXT: first, CONTEXT: round(scaling["factor"] * first)}
