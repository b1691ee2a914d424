"""Plain dicts -> the dataclasses of a recipe, by the types of their fields; faults are collected."""

import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Literal, Union, get_args, get_origin, get_type_hints

from codemix_megatron.recipe.fault_lines import Faults, join, kind_of, names_of, nearest
from codemix_megatron.recipe.moving_mixture import is_moving
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.schema import CorpusSpec, Phase
from codemix_megatron.recipe.sources import Source

__all__ = ["read_block"]

# What a number may be: NaN and infinity turn comparisons, and so the checks after this, into nothing.
LARGEST = {int: 2**62, float: 1e300}


def read_block(block, plain, path: str, faults: Faults):
    """Return an instance of the dataclass `block`, or None after adding to `faults`."""
    if not isinstance(plain, dict):
        faults.append(f"{path or 'recipe'}: found {kind_of(plain)}, needs a mapping with {', '.join(f.name for f in fields(block))}")
        return None
    known = {f.name: f for f in fields(block)}
    for key in plain:
        if key not in known:
            faults.append(f"{join(path, key)}: no such key{nearest(key, known)}")
            faults.harmless += 1
    before, hints, values = faults.blocking, get_type_hints(block), {}
    for name, declared in known.items():
        if name in plain:
            values[name] = read_value(declared, hints[name], plain[name], join(path, name), faults)
        elif declared.default is MISSING and declared.default_factory is MISSING:
            faults.append(f"{join(path, name)}: missing; it is the {declared.metadata['help']}")
    return block(**values) if faults.blocking == before else None


def read_value(declared, hint, value, path: str, faults: Faults):
    """Read one value of a block by its declared reader or its type."""
    reader = declared.metadata.get("reader")
    if value is None and declared.default is None:
        return None
    try:
        if reader == "tokens":
            return parse_tokens(value)
        if reader == "tokens_or_zero":
            return 0 if value == 0 and not isinstance(value, bool) else parse_tokens(value)
    except ValueError as fault:
        faults.append(f"{path}: {fault}")
        return None
    if callable(reader):
        return reader(value, path, faults)
    if reader == "corpora":
        return read_corpora(value, path, faults)
    if reader == "sources":
        return read_sources(value, path, faults)
    if reader == "phases":
        return read_phases(value, path, faults)
    if reader == "mixture":
        return read_mixture(value, path, faults)
    if reader == "rates":
        return read_rates(value, path, faults)
    return read_typed(hint, value, path, faults)


def read_typed(hint, value, path: str, faults: Faults):
    """Read a value by its type hint: dataclass, Literal, Optional, tuple or scalar."""
    if is_dataclass(hint):
        return read_block(hint, value, path, faults)
    origin = get_origin(hint)
    if origin is Literal:
        # YAML reads a bare `off` as False, and wandb's own word for it is off.
        value = "off" if value is False and "off" in get_args(hint) else value
        if value not in get_args(hint):
            faults.append(f"{path}: found {value!r}, allowed are {', '.join(get_args(hint))}")
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return read_typed(next(h for h in get_args(hint) if h is not type(None)), value, path, faults)
    if origin is tuple:
        return read_tuple(get_args(hint), value, path, faults)
    return read_scalar(hint, value, path, faults)


def read_tuple(hints, value, path: str, faults: Faults):
    """Read a list; `tuple[x, ...]` takes one bare value too."""
    endless = len(hints) == 2 and hints[1] is ...
    if endless and isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)) or (not endless and len(value) != len(hints)):
        faults.append(f"{path}: found {kind_of(value)}, needs a list" + ("" if endless else f" of {len(hints)}"))
        return None
    inner = [hints[0]] * len(value) if endless else hints
    return tuple(read_typed(h, v, f"{path}[{i}]", faults) for i, (h, v) in enumerate(zip(inner, value, strict=True)))


def read_scalar(hint, value, path: str, faults: Faults):
    """Read a bool, int, finite float or str without guessing between them."""
    if hint is float and isinstance(value, str):
        try:
            value = float(value)  # YAML 1.1 reads 3e-4 (no dot) as text
        except ValueError:
            pass
    accepted = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        faults.append(f"{path}: found {kind_of(value)}, needs {names_of(hint)}")
        return None
    if hint in LARGEST and isinstance(value, (int, float)) and not abs(value) <= LARGEST[hint]:  # .nan is neither above nor below
        faults.append(f"{path}: found {value if isinstance(value, float) else 'a number of more than 62 bits'}, needs a finite number")
        return None
    return hint(value)


def read_corpora(value, path: str, faults: Faults):
    """Read the mapping name -> CorpusSpec."""
    if not value:
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping of corpus names")
        return None
    return read_blocks(CorpusSpec, value, path, faults, "of corpus names")


def read_sources(value, path: str, faults: Faults):
    """Read the mapping name of a corpus -> Source."""
    return read_blocks(Source, value, path, faults, "such as {code: {by: quality, buckets: [0.5], epochs: [0, 2]}}")


def read_blocks(declared: type, value, path: str, faults: Faults, what: str):
    """Read a mapping name -> block; `what` says in a fault which mapping it should be."""
    if not isinstance(value, dict):
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping {what}")
        return None
    return {str(name): read_block(declared, plain, join(path, name), faults) for name, plain in value.items()}


def read_rates(value, path: str, faults: Faults):
    """Read a mapping name -> number."""
    if not isinstance(value, dict):
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping such as {{python: 0.5}}")
        return None
    return {str(name): read_scalar(float, rate, join(path, name), faults) for name, rate in value.items()}


def read_phases(value, path: str, faults: Faults):
    """Read the list of phases."""
    if not isinstance(value, list) or not value:
        faults.append(f"{path}: found {kind_of(value)}, needs a list of at least one phase")
        return None
    return tuple(read_block(Phase, plain, f"{path}[{i}]", faults) for i, plain in enumerate(value))


def read_mixture(value, path: str, faults: Faults):
    """Read a mixture; sums are checked later, with the names."""
    if not isinstance(value, dict) or not value:
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping corpus -> share")
        return None
    if is_moving(value):
        return read_moving(value, path, faults)
    if "proportional" in value:
        return read_proportional(value, path, faults)
    return {str(name): read_entry(entry, join(path, name), faults) for name, entry in value.items()}


def read_moving(value: dict, path: str, faults: Faults):
    """Read {from, to, stages}."""
    for key in value:
        if key not in ("from", "to", "stages"):
            faults.append(f"{join(path, key)}: no such key{nearest(key, ('from', 'to', 'stages'))}")
    read = {end: read_mixture(value[end], f"{path}.{end}", faults) for end in ("from", "to")}
    if value.get("stages") is not None:
        read["stages"] = read_scalar(int, value["stages"], f"{path}.stages", faults)
    return read


def read_entry(entry, path: str, faults: Faults):
    """Read one entry of a mixture: a share, {tokens}, or a group with {share or tokens, mixture}."""
    if not isinstance(entry, dict):
        return read_scalar(float, entry, path, faults)
    keys = set(entry)
    if keys not in ({"tokens"}, {"share", "mixture"}, {"tokens", "mixture"}):
        found = ", ".join(map(str, entry)) or "none"
        faults.append(f"{path}: found the keys {found}; allowed are a share, {{tokens}}, {{share, mixture}} or {{tokens, mixture}}")
        return None
    read = {}
    if "share" in entry:
        read["share"] = read_scalar(float, entry["share"], f"{path}.share", faults)
    else:
        try:
            is_none = entry["tokens"] == 0 and entry["tokens"] is not False
            read["tokens"] = 0 if is_none else parse_tokens(entry["tokens"])
        except ValueError as fault:
            faults.append(f"{path}.tokens: {fault}")
    if "mixture" in entry:
        read["mixture"] = read_mixture(entry["mixture"], f"{path}.mixture", faults)
    return read


def read_proportional(value: dict, path: str, faults: Faults):
    """Read {proportional: tokens, temperature, corpora}."""
    for key in value:
        if key not in ("proportional", "temperature", "corpora"):
            faults.append(f"{join(path, key)}: no such key{nearest(key, ('proportional', 'temperature', 'corpora'))}")
    if value["proportional"] != "tokens":
        faults.append(f"{path}.proportional: found {value['proportional']!r}, allowed is tokens")
    corpora = read_tuple((str, ...), value.get("corpora"), f"{path}.corpora", faults)
    temperature = read_scalar(float, value.get("temperature", 1.0), f"{path}.temperature", faults)
    return {"proportional": "tokens", "temperature": temperature, "corpora": list(corpora or ())}
