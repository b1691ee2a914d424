"""Variants x axes -> named sets of changes to the base recipe; which of them are kept."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

from codemix_megatron.recipe.fault_lines import kind_of, nearest
from codemix_megatron.recipe.names import name_fault

__all__ = ["VARIANT", "Combination", "combine", "read_axes", "read_changes", "read_selection"]

VARIANT = "variant"  # what include and exclude call the variant itself
SEED_KEY = re.compile(r"seed|phases\.[^.]+\.data_seed")


@dataclass(frozen=True)
class Combination:
    """A variant at one point of every axis; `changes` are (where they stand in the study, mapping of recipe keys)."""

    name: str
    variant: str
    points: dict[str, str]
    changes: list[tuple[str, dict]]
    repeats: tuple[str, ...] = ()  # axes that change nothing but the seed

    @property
    def conditions(self) -> dict[str, str]:
        """The points without those of seeds, which are repetitions and no conditions."""
        return {axis: point for axis, point in self.points.items() if axis not in self.repeats}


def read_axes(plain, faults: list[str]) -> dict[str, dict[str, dict]]:
    """Return axis -> point -> changes. A list stands for a recipe key and its values: `seed: [1, 2]`."""
    if not isinstance(plain, dict):
        faults.append(f"axes: found {kind_of(plain)}, needs a mapping such as {{seed: [1, 2]}}")
        return {}
    axes = {}
    for axis, points in plain.items():
        where = f"axes.{axis}"
        if axis == VARIANT:
            faults.append(f"{where}: {VARIANT} is what include and exclude call a variant; name the axis otherwise")
        if isinstance(points, list) and points:
            last = str(axis).rpartition(".")[2]
            names = [f"{last}-{value}" for value in points]
            faults += [f"{where}: {name} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
            points = {name: {axis: value} for name, value in zip(names, points, strict=True)}
        if not isinstance(points, dict) or not points:
            faults.append(
                f"{where}: found {kind_of(points)}, needs a mapping point -> {{a.b: value}}, or a list of values of the key {axis}"
            )
            continue
        axes[str(axis)] = {str(name): read_changes(changes, f"{where}.{name}", faults) for name, changes in points.items()}
        faults += [f"{where}: {name_fault(name)}" for name in points if name_fault(name)]
    return axes


def read_changes(plain, where: str, faults: list[str]) -> dict:
    """Return a mapping of dotted recipe keys; nothing is no change."""
    if plain is None or isinstance(plain, dict):
        return {str(key): value for key, value in (plain or {}).items()}
    faults.append(f"{where}: found {kind_of(plain)}, needs a mapping of recipe keys such as {{model.num_layers: 4}}")
    return {}


def read_selection(plain, key: str, known: dict[str, list[str]], faults: list[str]) -> list[dict[str, list[str]]]:
    """Return the entries of include or exclude: axis (or `variant`) -> patterns; each pattern has to match something."""
    if not isinstance(plain, list):
        faults.append(f"{key}: found {kind_of(plain)}, needs a list of entries such as {{variant: sweep-*}}")
        return []
    entries = []
    for i, entry in enumerate(plain):
        if not isinstance(entry, dict) or not entry:
            faults.append(f"{key}[{i}]: found {kind_of(entry)}, needs a mapping of {', '.join(known)} to names or patterns")
            continue
        read = {axis: [str(p) for p in (patterns if isinstance(patterns, list) else [patterns])] for axis, patterns in entry.items()}
        for axis, patterns in read.items():
            if axis not in known:
                faults.append(f"{key}[{i}].{axis}: no such axis{nearest(axis, known)}")
                continue
            faults += [
                f"{key}[{i}].{axis}: {p!r} matches none of {', '.join(known[axis])}"
                for p in patterns
                if not any(fnmatchcase(name, p) for name in known[axis])
            ]
        entries.append(read)
    return entries


def combine(variants: dict[str, list[tuple[str, dict]]], axes: dict, include: list, exclude: list, faults: list[str]) -> list[Combination]:
    """Multiply variants by axes and keep what include and exclude leave; two of one name are a fault."""
    made = []
    repeats = tuple(axis for axis, points in axes.items() if only_seeds(points))
    for variant, changes in variants.items():
        for points in product(*(axis.items() for axis in axes.values())):
            at = dict(zip(axes, (point for point, _ in points), strict=True))
            words = {VARIANT: variant, **at}
            if (include and not any(matches(words, entry) for entry in include)) or any(matches(words, entry) for entry in exclude):
                continue
            extra = [(f"axes.{axis}.{point}", change) for axis, (point, change) in zip(axes, points, strict=True)]
            made.append(Combination("-".join([variant, *at.values()]), variant, at, [*changes, *extra], repeats))
    names = [combination.name for combination in made]
    for name in sorted({n for n in names if names.count(n) > 1}):
        sides = " and ".join(" x ".join([c.variant, *c.points.values()]) for c in made if c.name == name)
        faults.append(f"two variants are called {name}: {sides}; rename one")
    if not made and not faults:
        faults.append("variants: none is left after include and exclude")
    return made


def only_seeds(points: dict[str, dict]) -> bool:
    """Say whether the points of an axis change nothing but seeds, of the run or of a phase's data."""
    return any(points.values()) and all(SEED_KEY.fullmatch(key) for changes in points.values() for key in changes)


def matches(words: dict[str, str], entry: dict[str, list[str]]) -> bool:
    """Say whether every axis an entry names is at one of its patterns."""
    return all(any(fnmatchcase(words.get(axis, ""), pattern) for pattern in patterns) for axis, patterns in entry.items())
