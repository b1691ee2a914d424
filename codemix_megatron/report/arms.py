"""Arms of a study: a variant at one point of its axes, with all its seeds. They, not runs or items, are what a study compares."""

import re
from dataclasses import dataclass, replace
from functools import cached_property

from codemix_megatron.recipe.reading import write_recipe
from codemix_megatron.report.consumption import tokens_by_kind
from codemix_megatron.report.roles import parent_of, parent_path
from codemix_megatron.report.run_data import RunData

__all__ = ["Arm", "CodePhase", "code_share", "find_references", "group_arms", "label_runs", "seeds_of"]

TEXT_ONLY = re.compile(r"text[-_]only\b", re.IGNORECASE)
SEED_SUFFIX = re.compile(r"[-_.]?seed[-_.]?\d*$", re.IGNORECASE)


@dataclass(frozen=True)
class CodePhase:
    """One phase as far as code is concerned: its tokens, its share of code, and its shares by source."""

    name: str
    tokens: int
    share: float
    mixture: tuple[tuple[str, float], ...]
    code: tuple[str, ...]  # sources that are not text


@dataclass(frozen=True, eq=False)
class Arm:
    """A variant at one point of the axes; `runs` are its seeds."""

    label: str
    runs: tuple[RunData, ...]

    @property
    def first(self) -> RunData:
        """The run that stands for what all seeds have in common."""
        return self.runs[0]

    @property
    def seeds(self) -> int:
        """How many seeds were run."""
        return len(self.runs)

    @property
    def repeated_phase(self) -> str | None:
        """The phase its runs begin to differ in, where they went on from one trunk with other data seeds; None where seeds are whole runs."""
        seeds = [seeds_of(run) for run in self.runs]
        differing = [i for i in range(len(seeds[0])) if len({each[i] for each in seeds}) > 1]
        names = [phase.name for phase in self.first.recipe.phases] if self.first.recipe else []
        return names[differing[0] - 1] if differing and 0 < differing[0] <= len(names) else None

    @property
    def tokens(self) -> int:
        """Tokens each of its runs is trained on in all."""
        return self.first.planned_tokens or self.first.tokens

    @property
    def parameters(self) -> int | None:
        """Parameters of its model."""
        return self.first.parameters

    @cached_property
    def share(self) -> float | None:
        """The share of all its tokens that was not text."""
        return code_share(self.first)

    @property
    def is_text_only(self) -> bool:
        """Say whether it saw no code at all, or is called so where nothing was recorded."""
        return self.share == 0 if self.share is not None else bool(TEXT_ONLY.match(self.first.variant or self.label))

    @cached_property
    def phases(self) -> tuple[CodePhase, ...]:
        """What each planned phase holds."""
        return tuple(describe_phase(self.first, phase) for phase in (self.first.plan or {}).get("phases", []))

    @property
    def budget(self) -> tuple:
        """Size and tokens: only arms with the same ones may be judged against each other."""
        return self.parameters, self.tokens


def code_share(run: RunData) -> float | None:
    """Return the share of tokens that was not text."""
    tokens = tokens_by_kind(run)
    total = sum(tokens.values())
    return 1 - tokens.get("text", 0) / total if total else None


def describe_phase(run: RunData, phase: dict) -> CodePhase:
    """Return a planned phase."""
    shares = {source: entry["tokens"] / phase["tokens"] for source, entry in phase["sources"].items() if entry["tokens"]}
    code = tuple(sorted(source for source in shares if run.kind(source) != "text"))
    mixture = tuple(sorted((source, round(share, 3)) for source, share in shares.items()))
    return CodePhase(phase["name"], phase["tokens"], sum(shares[source] for source in code), mixture, code)


def seeds_of(run: RunData) -> tuple:
    """Return all that makes a run another observation of the same arm: its seed and the data seeds of its phases."""
    return (run.recipe.seed, *(phase.data_seed for phase in run.recipe.phases)) if run.recipe else (id(run),)


def label_runs(runs: list[RunData]) -> list[str]:
    """Return a name for each run that no other one has."""
    names = [run.name for run in runs]
    folders = [run.folder.path.name for run in runs]
    shown = folders if len(set(folders)) == len(folders) else [run.shown_path for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({path})" for name, path in zip(names, shown, strict=True)]


def group_arms(runs: list[RunData]) -> list[Arm]:
    """Return the arms in the order of their first runs; the same recipe and seed twice is no second observation but an arm of its own."""
    groups: dict[object, dict[object, list[tuple[RunData, str]]]] = {}
    for run, label in zip(runs, label_runs(runs), strict=True):
        groups.setdefault(key_of(run, runs), {}).setdefault(seeds_of(run), []).append((run, label))
    arms = []
    for by_seed in groups.values():
        for copy in range(max(map(len, by_seed.values()))):
            members = [found[copy] for found in by_seed.values() if len(found) > copy]
            arms.append(Arm(name_arm(members), tuple(run for run, _ in members)))
    order = {id(run): index for index, run in enumerate(runs)}
    return sorted(arms, key=lambda arm: order[id(arm.first)])


def key_of(run: RunData, runs: list[RunData]):
    """Return what two runs have to share to be seeds of one arm: all of the recipe but seeds and names, and the same arm as parent."""
    if run.recipe is None:
        return id(run)
    phases = tuple(replace(phase, data_seed=None) for phase in run.recipe.phases)
    recipe = write_recipe(replace(run.recipe, seed=0, name="", branch=None, initial_weights=None, phases=phases))
    path = parent_path(run)
    if path is None:
        return recipe
    parent = parent_of(run, runs)
    return recipe, key_of(parent, [other for other in runs if other is not run]) if parent is not None else str(path)


def name_arm(members: list[tuple[RunData, str]]) -> str:
    """Return the name of an arm: its variant and points, or what the names of its runs have in common."""
    run, label = members[0]
    if run.variant is not None:
        return "-".join([run.variant, *run.points.values()])
    bare = {SEED_SUFFIX.sub("", name) for _, name in members}
    if len(members) > 1:
        return min(bare, key=len) or label
    return label


def find_references(arms: list[Arm]) -> dict[int, Arm | None]:
    """Return id of arm -> the text-only arm at the same point of all other axes, None where there is none.

    Of several, the one with the same size and tokens. A study without any text-only arm is held against its first arm there.
    """
    plain = [arm for arm in arms if arm.is_text_only]
    found = {}
    for arm in arms:
        there = [other for other in plain or arms if is_at_same_point(arm, other)]
        there.sort(key=lambda other: (other.budget != arm.budget, not TEXT_ONLY.match(other.label)))
        found[id(arm)] = there[0] if there else None
    return found


def is_at_same_point(arm: Arm, other: Arm) -> bool:
    """Say whether two arms agree on all axes; where these are not known, on size."""
    if arm.first.variant is not None and other.first.variant is not None:
        return arm.first.points == other.first.points
    return arm.parameters == other.parameters
