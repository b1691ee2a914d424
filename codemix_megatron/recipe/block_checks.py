"""Checks of the model block's keys against each other: which blocks there are."""

import math

from codemix_megatron.recipe.schema import Model, RopeScaling

__all__ = ["block_faults"]

SCALES = (
    "rope_base",
    "window_rope_base",
    "normalization_epsilon",
    "init_std",
    "logit_scale",
    "embedding_multiplier",
    "residual_multiplier",
    "attention_scale",
    "attention_softcap",
    "logit_softcap",
)
# Keys of rope_scaling beside its factor: those a kind must have, those it may have.
NEEDED = {
    "linear": (),
    "llama3": ("low_frequency_factor", "high_frequency_factor", "original_sequence_length"),
    "yarn": ("original_sequence_length",),
    "longrope": ("original_sequence_length", "short_factors", "long_factors"),
}
OPTIONAL = {"linear": (), "llama3": (), "yarn": ("fast_rotations", "slow_rotations", "attention_factor"), "longrope": ()}


def block_faults(model: Model) -> list[str]:
    """Return what no layer computes, each with its key."""
    faults = [
        f"model.{name}: found {value}, must be above 0"
        for name in SCALES
        if (value := getattr(model, name)) is not None and not 0 < value < math.inf
    ]
    if model.block == "parallel":
        faults += parallel_faults(model)
    if model.qk_norm_width == "all" and not model.qk_norm:
        faults.append("model.qk_norm_width: all, but there is no qk_norm; set qk_norm: true or leave it out")
    if model.zero_centered_norm and model.normalization != "rmsnorm":
        faults.append(f"model.zero_centered_norm: not there with normalization {model.normalization}; set one of the two back")
    return faults + interval_faults(model) + window_rope_faults(model) + rope_scaling_faults(model.rope_scaling) + rotary_faults(model)


def parallel_faults(model: Model) -> list[str]:
    """Return what a parallel block, with its one norm and one sum, has no place for."""
    there = {
        "qkv_bias": model.qkv_bias,
        "linear_bias": model.linear_bias,
        "norm_position": model.norm_position != "before",
        "residual_multiplier": model.residual_multiplier != 1,
    }
    return [f"model.{key}: not there in a parallel block; set one of the two back" for key, is_asked in there.items() if is_asked]


def interval_faults(model: Model) -> list[str]:
    """Check which layers are to be otherwise than the rest."""
    faults = []
    for name in ("full_attention_interval", "no_rope_interval"):
        value = getattr(model, name)
        if value is not None and value < 2:
            faults.append(f"model.{name}: found {value}, must be at least 2")
    if model.full_attention_interval and not model.sliding_window:
        faults.append("model.full_attention_interval: no layer has a window; set sliding_window or leave it out")
    if model.no_rope_interval and model.rope_scaling and model.rope_scaling.kind in ("yarn", "longrope"):
        faults.append(f"model.no_rope_interval: {model.rope_scaling.kind} changes attention in every layer; leave one of the two out")
    return faults


def window_rope_faults(model: Model) -> list[str]:
    """Check that layers may rotate by two bases."""
    if model.window_rope_base is None:
        return []
    where, scaling = "model.window_rope_base", model.rope_scaling
    faults = [] if model.sliding_window else [f"{where}: no layer has a window; set sliding_window or leave it out"]
    if model.rotary_interleaved:
        faults.append(f"{where}: not there with rotary_interleaved; set one of the two back")
    if scaling is not None and scaling.kind in ("yarn", "longrope"):
        faults.append(f"{where}: {scaling.kind} changes attention in every layer; leave one of the two out")
    return faults


def rope_scaling_faults(scaling: RopeScaling | None) -> list[str]:
    """Check that a kind of scaling has the numbers it needs and no others."""
    if scaling is None:
        return []
    where, kind = "model.rope_scaling", scaling.kind
    names = {name for of in (*NEEDED.values(), *OPTIONAL.values()) for name in of}
    given = {name: getattr(scaling, name) for name in sorted(names)}
    known = {*NEEDED[kind], *OPTIONAL[kind]}
    faults = [f"{where}.{name}: missing; kind {kind} needs it" for name in NEEDED[kind] if given[name] is None]
    for name, value in given.items():
        if value is not None and name not in known:
            owners = " and ".join(of for of in NEEDED if name in (*NEEDED[of], *OPTIONAL[of]))
            faults.append(f"{where}.{name}: belongs to kind {owners}; leave it out")
    numbers = {"factor": scaling.factor, **{name: value for name, value in given.items() if not isinstance(value, tuple)}}
    for name, value in given.items():
        if isinstance(value, tuple) and not all(0 < number < math.inf for number in value):
            faults.append(f"{where}.{name}: numbers must be above 0")
    faults += [f"{where}.{n}: found {v}, must be above 0" for n, v in numbers.items() if v is not None and not 0 < v < math.inf]
    return faults or order_faults(scaling)


def rotary_faults(model: Model) -> list[str]:
    """Check which channels turn, and that longrope has a number for each of their frequencies."""
    if not 0 < model.rotary_share <= 1 or (model.rotary_size % 2 and not model.head_size % 2):  # odd heads have their own fault
        return [f"model.rotary_share: found {model.rotary_share}, must leave an even number of {model.head_size} channels to turn"]
    scaling, wanted = model.rope_scaling, model.rotary_size // 2
    if scaling is None or scaling.kind != "longrope":
        return []
    faults = [
        f"model.rope_scaling.{name}: {len(factors)} numbers, {wanted} frequencies turn"
        for name in ("short_factors", "long_factors")
        if (factors := getattr(scaling, name)) is not None and len(factors) != wanted
    ]
    longest = scaling.factor * (scaling.original_sequence_length or 0)
    if model.sequence_length > longest + 0.5:
        faults.append(f"model.sequence_length: {model.sequence_length}, longrope's factor allows {longest:.0f}")
    return faults


def order_faults(scaling: RopeScaling) -> list[str]:
    """Check that what is fast is faster than what is slow."""
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    if low is not None and high is not None and high <= low:
        return [f"model.rope_scaling.high_frequency_factor: {high} is not above low_frequency_factor"]
    slow, fast = scaling.slow_rotations or 1.0, scaling.fast_rotations or 32.0
    if scaling.kind == "yarn" and fast <= slow:
        return [f"model.rope_scaling.fast_rotations: {fast} is not above slow_rotations {slow}"]
    return []
