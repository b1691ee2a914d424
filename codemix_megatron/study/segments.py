"""Variants cut into segments, one per phase; those whose recipes are the same up to a phase share it.

A segment is a run of its own: its recipe has one phase and, unless it is a root, branches off where its parent ends. A branch
carries weights, Adam's state and data order, so the losses along a variant's segments are those of one run with all phases.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from codemix_megatron.recipe.moving_mixture import is_moving
from codemix_megatron.recipe.reading import write_recipe
from codemix_megatron.recipe.schema import Branch, CheckpointPolicy, Evaluation, Observers, Parallel, Phase, Recipe
from codemix_megatron.study.schema import Study, Variant

__all__ = ["Graph", "Segment", "build_graph", "key_of", "segment_recipe"]

# Of `parallel`, what decides how ranks share the work and so how sums are rounded.
LAYOUT = ("tensor", "pipeline", "virtual_pipeline", "context", "data", "sequence_parallel", "distributed_optimizer", "recompute")


@dataclass(frozen=True)
class Segment:
    """One phase that one or more variants go through. `name` is that of its run folder."""

    name: str
    key: str
    phase: Phase
    parent: str | None
    recipe: Recipe  # of the first variant that has it, with all its phases
    variants: tuple[str, ...]  # that go through it
    ends: tuple[str, ...]  # variants whose last phase it is


@dataclass(frozen=True)
class Graph:
    """The tree of a study's segments, parents before children, and each variant's way through it."""

    segments: dict[str, Segment]
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)  # variant -> segments

    def children(self, parent: str | None) -> list[Segment]:
        """Return the segments that go on from `parent`, or the roots."""
        return [segment for segment in self.segments.values() if segment.parent == parent]

    def below(self, name: str) -> list[str]:
        """Return the segments that need `name`, near ones first."""
        found = [child.name for child in self.children(name)]
        return found + [deeper for child in found for deeper in self.below(child)]


def build_graph(study: Study, known: dict[str, str] | None = None) -> Graph:
    """Cut the variants into segments. `known` (key -> name) keeps the names of those that were named before."""
    keys = {variant.name: [key_of(variant.recipe, i) for i in range(len(variant.recipe.phases))] for variant in study.variants}
    names = name_segments(study.variants, keys, known or {})
    users: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    parents: dict[str, str | None] = {}
    firsts: dict[str, tuple] = {}
    for variant in study.variants:
        for i, key in enumerate(keys[variant.name]):
            firsts.setdefault(key, (variant, i))
            users.setdefault(key, []).append(variant.name)
            parents[key] = keys[variant.name][i - 1] if i else None
        ends.setdefault(keys[variant.name][-1], []).append(variant.name)
    segments = {}
    for key, (variant, i) in firsts.items():
        segments[names[key]] = Segment(
            name=names[key],
            key=key,
            phase=variant.recipe.phases[i],
            parent=names[before] if (before := parents[key]) else None,
            recipe=variant.recipe,
            variants=tuple(users[key]),
            ends=tuple(ends.get(key, ())),
        )
    return Graph(segments, {name: tuple(names[key] for key in path) for name, path in keys.items()})


def key_of(recipe: Recipe, index: int) -> str:
    """Return a digest of all that decides a run up to the end of a phase: what two variants have to agree on to share it."""
    phases = recipe.phases[: index + 1]
    drawn = {name for phase in phases for name in corpora_of(phase.mixture)}
    # Saving, watching, scoring and waiting change no loss; the held-out share decides what is in the corpora.
    deciding = replace(
        recipe,
        name="",
        phases=phases,
        corpora={name: replace(spec, max_epochs=1.0, beyond_max_epochs="refuse") for name, spec in recipe.corpora.items() if name in drawn},
        parallel=Parallel(**{name: getattr(recipe.parallel, name) for name in LAYOUT} | {"overlap": bool(recipe.parallel.overlap)}),
        checkpoint=CheckpointPolicy(),
        observers=Observers(),
        evaluation=Evaluation(held_out_share=recipe.evaluation.held_out_share),
    )
    return hashlib.sha256(write_recipe(deciding).encode()).hexdigest()[:16]


def corpora_of(mixture: dict) -> list[str]:
    """Return the corpora a mixture names, in groups too."""
    if is_moving(mixture):
        return list(dict.fromkeys([*corpora_of(mixture["from"]), *corpora_of(mixture["to"])]))
    if "proportional" in mixture:
        return list(mixture["corpora"])
    inner = {name: entry.get("mixture") if isinstance(entry, dict) else None for name, entry in mixture.items()}
    return [corpus for name, group in inner.items() for corpus in (corpora_of(group) if group else [name])]


def name_segments(variants: tuple[Variant, ...], keys: dict[str, list[str]], known: dict[str, str]) -> dict[str, str]:
    """Return key -> name: where a variant ends its own name, else that of the first variant there and the phase."""
    asked = {keys[variant.name][-1]: variant.name for variant in reversed(variants)}
    for variant in variants:
        for key, phase in zip(keys[variant.name], variant.recipe.phases, strict=True):
            asked.setdefault(key, f"{variant.name}.{phase.name}")
    names = {key: known[key] for key in asked if key in known}
    taken = {*known.values()}
    for key, name in asked.items():
        if key not in names:
            names[key] = free_name(name, taken)
            taken.add(names[key])
    return names


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number where it is taken."""
    return next(tried for n in range(1, len(taken) + 2) if (tried := name if n == 1 else f"{name}.{n}") not in taken)


def segment_recipe(segment: Segment, runs: Path) -> Recipe:
    """Return the recipe of a segment's run, whose parent is in the folder `runs`."""
    recipe = replace(segment.recipe, name=segment.name, phases=(segment.phase,))
    if segment.parent is None:
        return recipe
    return replace(recipe, initial_weights=None, branch=Branch(run=str(runs / segment.parent)))
