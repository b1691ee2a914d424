"""Which layers of a model see only a window and which have no rotary positions: config.json's lists <-> the recipe's intervals."""

from codemix_megatron.families.family import Family

__all__ = ["FULL", "WINDOWED", "layer_kind_misfits", "layer_kinds_of_model", "read_layer_kinds"]

FULL, WINDOWED = "full_attention", "sliding_attention"


def read_layer_kinds(config: dict, family: Family, model: dict, faults: list[str]) -> None:
    """Add the intervals to a model block; what they cannot say becomes a fault."""
    count = model.get("num_layers")
    if not isinstance(count, int):
        return
    kinds = config.get("layer_types")
    if kinds is not None and not (isinstance(kinds, list) and len(kinds) == count):
        faults.append(f"layer_types {kinds!r} is not a list of {count} words")
        return
    kinds = kinds or usual_kinds(config, family, count)
    allowed = {FULL, WINDOWED} if family.full_attention_interval else {FULL}
    if strangers := sorted({str(kind) for kind in kinds} - allowed):
        faults.append(f"layer_types {', '.join(strangers)}; only {' and '.join(sorted(allowed))} can be read")
        return
    if family.full_attention_interval:
        read_windows(kinds, family, model, faults)
    if family.without_rope == "listed":
        read_no_rope_layers(config, model, count, faults)


def usual_kinds(config: dict, family: Family, count: int) -> list[str]:
    """Return what a silent config.json means; some say sliding_window_pattern instead."""
    every = config.get("sliding_window_pattern", family.full_attention_interval)
    if not family.full_attention_interval or not isinstance(every, int) or every < 1:
        return [FULL] * count
    return [WINDOWED if (number + 1) % every else FULL for number in range(count)]


def read_windows(kinds: list[str], family: Family, model: dict, faults: list[str]) -> None:
    """Add the interval of layers that see all, which in some families have no rotary positions."""
    seen = [kind == FULL for kind in kinds]
    if all(seen):
        model["sliding_window"] = None
        if family.without_rope == FULL:
            faults.append("layer_types: no layer has rotary positions")
        return
    if not model.get("sliding_window"):
        faults.append("sliding_window is missing; layer_types has layers with one")
        return
    if not is_regular(seen):
        faults.append("layer_types: layers that see all do not come at one interval")
        return
    model["full_attention_interval"] = interval(seen)
    if family.without_rope == FULL:
        model["no_rope_interval"] = interval(seen)


def read_no_rope_layers(config: dict, model: dict, count: int, faults: list[str]) -> None:
    """Add the interval of layers without rotary positions; a 0 in the list is one of them."""
    every = config.get("no_rope_layer_interval", 4)
    listed = config.get("no_rope_layers")
    if listed is None:
        listed = [int((number + 1) % every != 0) for number in range(count)] if isinstance(every, int) and every > 0 else None
    if not isinstance(listed, list) or len(listed) < count or not set(map(str, listed)) <= {"0", "1"}:
        faults.append(f"no_rope_layers {listed!r} is not a list of {count} zeros and ones")
        return
    bare = [number == 0 for number in listed[:count]]
    if all(bare) or not is_regular(bare):
        faults.append("no_rope_layers: layers without rotary positions do not come at one interval")
        return
    model["no_rope_interval"] = interval(bare)


def interval(chosen: list[bool]) -> int | None:
    """Return the number of the first chosen layer, counted from 1; None where there is none."""
    return chosen.index(True) + 1 if True in chosen else None


def is_regular(chosen: list[bool]) -> bool:
    """Say whether every so many-th layer is chosen and no other."""
    every = interval(chosen)
    return every is None or chosen == [(number + 1) % every == 0 for number in range(len(chosen))]


def layer_kinds_of_model(family: Family, model: dict) -> dict:
    """Return config.json's keys for a model block."""
    said: dict = {}
    count, every = model["num_layers"], model.get("full_attention_interval")
    if family.full_attention_interval:
        windowed = bool(model["sliding_window"])
        if not windowed:  # transformers asks for a width even where no layer has a window
            said["sliding_window"] = next(default for _, ours, default in family.config if ours == "sliding_window")
        said["layer_types"] = [
            WINDOWED if windowed and not (every and (number + 1) % every == 0) else FULL for number in range(count)
        ]  # fmt: skip
    if family.without_rope == "listed":
        bare = model.get("no_rope_interval")
        said["no_rope_layers"] = [int(not (bare and (number + 1) % bare == 0)) for number in range(count)]
        said["no_rope_layer_interval"] = bare or count + 1
    return said


def layer_kind_misfits(family: Family, model: dict) -> list[str]:
    """Name what a family whose layers differ cannot say of a model."""
    if family.without_rope != FULL:
        return []
    if not model.get("sliding_window"):
        return [f"{family.model_type} has a sliding window in some layers, model.sliding_window is not set"]
    every, bare = model.get("full_attention_interval"), model.get("no_rope_interval")
    return [] if every == bare else [f"model.no_rope_interval is {bare}, {family.model_type} has none where all is seen, every {every}"]
