"""Sweeps: arms that differ in how much code one of their phases holds, and in nothing else; and kinds of code beside each other."""

from dataclasses import dataclass, replace

from codemix_megatron.report.arms import Arm
from codemix_megatron.report.roles import parent_path
from codemix_megatron.report.wording import short_count

__all__ = ["Sweep", "find_kinds", "find_sweeps"]


@dataclass(frozen=True)
class Sweep:
    """Arms by the share of code in one phase: `phase_index` of `num_phases`; all other phases, size and tokens are the same."""

    phase_index: int
    num_phases: int
    phase: str
    shares: tuple[float, ...]
    arms: tuple[Arm, ...]

    @property
    def where(self) -> str:
        """Say in which phase code varies."""
        return "over the whole run" if self.num_phases == 1 else f"in phase {self.phase_index + 1} of {self.num_phases}, {self.phase}"

    @property
    def line(self) -> str:
        """Say what its arms have in common: points of axes, size and tokens."""
        first = self.arms[0]
        points = " ".join(first.first.points.values())
        size = f"{short_count(first.parameters)} parameters, " if first.parameters else ""
        return f"{points + ', ' if points else ''}{size}{short_count(first.tokens)} tokens"


def find_sweeps(arms: list[Arm], fewest: int = 2) -> list[Sweep]:
    """Return every sweep of at least `fewest` shares, those over whole runs first."""
    groups: dict[tuple, list[Arm]] = {}
    for arm in arms:
        for phase_index in range(len(arm.phases)):
            groups.setdefault(key_without(arm, phase_index), []).append(arm)
    sweeps = [sweep for (phase_index, num, *_), members in groups.items() for sweep in by_code(phase_index, num, members)]
    return sorted((sweep for sweep in sweeps if len(sweep.shares) >= fewest), key=lambda sweep: (sweep.num_phases, sweep.phase_index))


def key_without(arm: Arm, phase_index: int) -> tuple:
    """Return all that arms have to share to differ in one phase's mixture alone."""
    others = tuple((phase.tokens, phase.mixture) for i, phase in enumerate(arm.phases) if i != phase_index)
    start, points = parent_path(arm.first), tuple(arm.first.points.items())
    return phase_index, len(arm.phases), arm.parameters, arm.phases[phase_index].tokens, others, start, points, how_trained(arm)


def how_trained(arm: Arm) -> str:
    """Return the model, batch, optimizer and learning rates of an arm's recipe: what is no mixture and changes what a share would show."""
    recipe = arm.first.recipe
    if recipe is None:
        return ""
    phases = [replace(phase, name="", tokens=0, mixture={}, data_seed=None) for phase in recipe.phases]
    return repr((recipe.model, recipe.batch, recipe.optimizer, phases))


def by_code(phase_index: int, num_phases: int, arms: list[Arm]) -> list[Sweep]:
    """Return a sweep for each kind of code: arms with this kind, and those without code."""
    sweeps = []
    for code in dict.fromkeys(arm.phases[phase_index].code for arm in arms if arm.phases[phase_index].code):
        shares: dict[float, Arm] = {}
        for arm in arms:
            if arm.phases[phase_index].code in ((), code):
                shares.setdefault(round(arm.phases[phase_index].share, 3), arm)
        ordered = sorted(shares)
        # Arms without code belong to every kind; their phase may be called otherwise.
        phase = shares[ordered[-1]].phases[phase_index].name
        sweeps.append(Sweep(phase_index, num_phases, phase, tuple(ordered), tuple(shares[share] for share in ordered)))
    return sweeps


def find_kinds(arms: list[Arm]) -> list[list[Arm]]:
    """Return groups of arms that saw code alone, of one size and budget, and differ in what the code was."""
    groups: dict[tuple, list[Arm]] = {}
    for arm in arms:
        if arm.share is not None and arm.share > 0.999:
            groups.setdefault((arm.budget, tuple(arm.first.points.items())), []).append(arm)
    return [found for found in groups.values() if len({tuple(phase.mixture for phase in arm.phases) for arm in found}) > 1]
