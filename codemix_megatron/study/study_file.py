"""YAML -> Study, with every fault reported at once.

name: grid
base: recipe.yaml                    # all that variants have in common; paths in it are beside it
phases:                              # what variants put together, by name
  balanced: {tokens: 200B, mixture: {text: 0.5, code: 0.5}, learning_rate: {...}}
  cooldown: {tokens: 40B, mixture: {text: 0.8, code: 0.2}, learning_rate: {...}}
variants:
  balanced: {phases: [balanced]}
  cooled: {after: balanced, phases: [cooldown]}
  no-code: {after: balanced, phases: [cooldown], overrides: {phases.cooldown.mixture: {text: 1}}}
axes:                                # every variant at every point
  seed: [1, 2]                       # a recipe key and its values
  size: {small: {}, large: {model.num_layers: 8}}
exclude: [{variant: no-code, size: large}]
score: {suites: [bits_per_byte]}     # or none
"""

import copy
from pathlib import Path

from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.devices import DEVICES
from codemix_megatron.recipe.fault_lines import kind_of, nearest
from codemix_megatron.recipe.names import name_fault
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.yaml_text import parse_yaml, set_at
from codemix_megatron.study.combining import VARIANT, Combination, combine, read_axes, read_changes, read_selection
from codemix_megatron.study.schema import Study, Variant

__all__ = ["read_study"]

KEYS = ("name", "base", "device", "limit", "overrides", "phases", "variants", "axes", "include", "exclude", "score")
VARIANT_KEYS = ("after", "phases", "overrides")
SCORE_KEYS = ("suites", "items", "data_directory", "tasks", "tasks_directory", "trust")


def read_study(path) -> Study:
    """Read a study and its base recipe, multiply variants by axes, and check every variant's recipe.

    Raises RecipeError with all faults at once.
    """
    path = Path(path)
    plain, faults = parse_yaml(read_text(path, "study"), where=str(path)), []
    faults += [f"{key}: no such key{nearest(key, KEYS)}" for key in plain if key not in KEYS]
    base = read_base(plain.get("base"), path, faults)
    combinations = read_combinations(plain, base or {}, faults)
    settings = read_settings(plain, faults)
    score = read_score(plain.get("score", {}), faults)
    common = [("overrides", read_changes(plain.get("overrides"), "overrides", faults)), ("score", score or {})]
    if faults or base is None:
        raise RecipeError(faults, where=str(path))
    phases = {**{phase.get("name"): phase for phase in base["phases"]}, **named_phases(plain.get("phases", {}))}
    directory = (path.parent / plain["base"]).resolve().parent
    variants = build_variants(combinations, base, phases, common, directory, str(path))
    return Study(path=path.resolve(), variants=variants, is_scored=score is not None, **settings)


def read_text(path: Path, what: str) -> str:
    """Return a file's text; raises RecipeError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise RecipeError(f"cannot be read ({reason}); give the path of a YAML {what}", where=str(path)) from None


def read_base(value, path: Path, faults: list[str]) -> dict | None:
    """Return the base recipe as plain values, or None after adding to `faults`; what it says is checked with the variants."""
    if not isinstance(value, str):
        faults.append(
            f"base: {'missing' if value is None else f'found {kind_of(value)}'}; it is the path of the recipe that variants change"
        )
        return None
    try:
        plain = parse_yaml(read_text(path.parent / value, "recipe"), where=str(path.parent / value))
    except RecipeError as fault:
        faults.append(f"base: {fault}")
        return None
    if "base" in plain or "variants" in plain:
        faults.append(f"base: {value} is a study itself; give a recipe")
        return None
    if not isinstance(plain.get("phases"), list) or not all(isinstance(phase, dict) for phase in plain["phases"]):
        faults.append(f"base: {value} has no list of phases; give a whole recipe")
        return None
    return plain


def read_settings(plain: dict, faults: list[str]) -> dict:
    """Return name, device and limit."""
    name, device, limit = (plain.get(key) for key in ("name", "device", "limit"))
    if not isinstance(name, str) or name_fault(name):
        found = "missing" if name is None else name_fault(name) or f"found {kind_of(name)}"
        faults.append(f"name: {found}; it is the study's, and that of its folder under runs/")
    if device is not None and device not in DEVICES:
        faults.append(f"device: no device {device!r}{nearest(device, DEVICES)}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        faults.append(f"limit: found {kind_of(limit)}, needs the most runs at a time, at least 1")
    return {"name": name, "device": device, "limit": limit}


def read_score(plain, faults: list[str]) -> dict | None:
    """Return changes to the recipes' evaluation block, or None when nothing is to be scored."""
    if plain is None or plain == "none":
        return None
    if not isinstance(plain, dict):
        faults.append(f"score: found {kind_of(plain)}, needs none or a mapping with {', '.join(SCORE_KEYS)}")
        return None
    faults += [f"score.{key}: no such key{nearest(key, SCORE_KEYS)}" for key in plain if key not in SCORE_KEYS]
    return {f"evaluation.{key}": value for key, value in plain.items()}


def named_phases(plain: dict) -> dict[str, dict]:
    """Return name -> phase as a recipe writes it; a phase is called as in the study unless it says otherwise."""
    return {str(name): {"name": str(name), **phase} for name, phase in plain.items()}


def read_combinations(plain: dict, base: dict, faults: list[str]) -> list[Combination]:
    """Return the named variants with their changes."""
    phases = plain.get("phases", {})
    if not isinstance(phases, dict) or not all(isinstance(phase, dict) for phase in phases.values()):
        faults.append(f"phases: found {kind_of(phases)}, needs a mapping name -> phase, as a recipe writes one")
        phases = {}
    known = [*(phase.get("name") for phase in base.get("phases", [])), *phases]
    axes = read_axes(plain.get("axes", {}), faults)
    variants = read_variants(plain, base, axes, known, faults)
    names = {VARIANT: list(variants), **{axis: list(points) for axis, points in axes.items()}}
    include, exclude = (read_selection(plain.get(key, []), key, names, faults) for key in ("include", "exclude"))
    return combine(variants, axes, include, exclude, faults) if variants else []


def read_variants(plain: dict, base: dict, axes: dict, known: list[str], faults: list[str]) -> dict[str, list[tuple[str, dict]]]:
    """Return variant -> changes, what comes `after` another one with that one's before its own."""
    given = plain.get("variants")
    if given is None and axes:
        return {plain.get("name", "run"): []}  # the base recipe at every point
    if not isinstance(given, dict) or not given:
        faults.append(
            f"variants: {'missing' if given is None else f'found {kind_of(given)}'}; needs a mapping name -> {{phases: [...]}}, or axes"
        )
        return {}
    read = {str(name): read_variant(value, f"variants.{name}", known, faults) for name, value in given.items()}
    faults += [f"variants: {name_fault(name)}" for name in read if name_fault(name)]
    for name, entry in read.items():
        if entry["after"] is not None and entry["after"] not in read:
            faults.append(f"variants.{name}.after: no variant {entry['after']!r}{nearest(entry['after'], read)}")
    chains = {name: ancestors(name, read, faults) for name in read}
    for chain in chains.values():
        if len(chain) > 1 and not read[chain[0]]["phases"]:
            read[chain[0]]["phases"] = [phase.get("name") for phase in base.get("phases", [])]
    return {name: [change for each in chain for change in changes_of(each, read[each])] for name, chain in chains.items()}


def read_variant(value, where: str, known: list[str], faults: list[str]) -> dict:
    """Return after, phases and overrides of one variant."""
    value = {} if value is None else value
    if not isinstance(value, dict):
        faults.append(f"{where}: found {kind_of(value)}, needs a mapping with {', '.join(VARIANT_KEYS)}")
        value = {}
    faults += [f"{where}.{key}: no such key{nearest(key, VARIANT_KEYS)}" for key in value if key not in VARIANT_KEYS]
    phases = value.get("phases")
    if phases is not None and (not isinstance(phases, list) or not phases):
        faults.append(f"{where}.phases: found {kind_of(phases)}, needs a list of names of phases")
        phases = None
    for i, name in enumerate(phases or []):
        if not isinstance(name, str) or name not in known:
            faults.append(f"{where}.phases[{i}]: no phase {name!r}{nearest(name, known)}")
    after = value.get("after")
    if after is not None and not phases:
        faults.append(f"{where}.after: it needs phases that come after {after}")
    overrides = read_changes(value.get("overrides"), f"{where}.overrides", faults)
    return {"after": None if after is None else str(after), "phases": phases, "overrides": overrides}


def ancestors(name: str, variants: dict, faults: list[str]) -> list[str]:
    """Return the variants that one comes after, first the first, and itself; a cycle is a fault."""
    chain, at = [name], variants[name]["after"]
    while at in variants:
        if at in chain:
            faults.append(f"variants.{name}.after: a cycle, {' after '.join([*chain, at])}")
            break
        chain.append(at)
        at = variants[at]["after"]
    return chain[::-1]


def changes_of(name: str, entry: dict) -> list[tuple[str, dict]]:
    """Return a variant's own changes; its phases are added to those of the variants before."""
    phases = [(f"variants.{name}.phases", {"phases": entry["phases"]})] if entry["phases"] else []
    return [*phases, (f"variants.{name}.overrides", entry["overrides"])]


def build_variants(combinations, base: dict, phases: dict, common, directory: Path, where: str) -> tuple[Variant, ...]:
    """Build every variant's recipe; raises RecipeError with each fault once, beside the variants that have it."""
    found: dict[str, list[str]] = {}
    built = []
    for combination in combinations:
        try:
            plain = changed(base, phases, [*common, *combination.changes])
            recipe = build_recipe({**plain, "name": combination.name}, directory=directory)
            built.append(Variant(combination.name, recipe, combination.variant, combination.conditions))
        except RecipeError as fault:
            for line in fault.faults:
                found.setdefault(line, []).append(combination.name)
    if found:
        raise RecipeError([f"{line} ({told(names, len(combinations))})" for line, names in found.items()], where=where)
    refuse_other_documents(built, where)
    return tuple(built)


def told(names: list[str], total: int) -> str:
    """Name the variants a fault is in."""
    if len(names) == total:
        return "in every variant"
    return "in " + ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def changed(base: dict, phases: dict, changes: list[tuple[str, dict]]) -> dict:
    """Return the base with changes set in order; raises RecipeError with where a change stands."""
    plain, own = copy.deepcopy(base), False
    faults = []
    for where, change in changes:
        for key, value in change.items():
            if key == "phases" and where.endswith(".phases"):
                plain["phases"] = [*(plain["phases"] if own else []), *(copy.deepcopy(phases[name]) for name in value)]
                own = True
                continue
            try:
                set_at(plain, by_index(key.split("."), plain["phases"]), copy.deepcopy(value))
            except (KeyError, IndexError, TypeError, ValueError) as fault:
                faults.append(f"{where}: {key}: {fault.args[0] if fault.args else fault}")
    if faults:
        raise RecipeError(faults)
    return plain


def by_index(keys: list[str], phases: list) -> list[str]:
    """Return keys with the name of a phase replaced by its index; an index stays one."""
    names = [phase.get("name") for phase in phases]
    if keys[0] != "phases" or len(keys) < 2 or keys[1].isdigit():
        return keys
    if keys[1] not in names:
        raise KeyError(f"no phase {keys[1]!r}{nearest(keys[1], names)}")
    return ["phases", str(names.index(keys[1])), *keys[2:]]


def refuse_other_documents(variants: list[Variant], where: str) -> None:
    """Raise RecipeError when two variants make different corpora under one prefix."""
    owners: dict[str | None, tuple] = {}
    faults: list[str] = []
    for variant in variants:
        for name, spec in variant.recipe.corpora.items():
            made = (
                spec.documents,
                spec.filters,
                spec.text_key,
                spec.shuffle,
                spec.text_documents,
                variant.recipe.evaluation.held_out_share,
                variant.recipe.tokenizer,
            )
            other, before = owners.setdefault(spec.prefix, (variant.name, made))
            if before != made:
                faults.append(
                    f"corpora.{name}.prefix: {variant.name} and {other} prepare different files as {spec.prefix}; give each its own prefix"
                )
    if faults:
        raise RecipeError(list(dict.fromkeys(faults)), where=where)
