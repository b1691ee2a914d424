"""Each phase's tokens as whole global batches, its shares as sequences."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from codemix_megatron.mixture.budget import apportion, apportion_moving, plan_batches
from codemix_megatron.plan.branch import BranchPoint
from codemix_megatron.plan.cost import training_flops_per_token
from codemix_megatron.recipe.mixture_shares import flatten_mixture
from codemix_megatron.recipe.moving_mixture import is_moving, stretches_of
from codemix_megatron.recipe.schema import Phase, Recipe, as_plain

__all__ = ["PhasePlan", "SourcePlan", "drawn_before", "first_position", "plan_phases"]


@dataclass(frozen=True)
class SourcePlan:
    """One source inside one phase; epochs are counted over the whole run. A share that moves is the phase's mean."""

    share: float
    sequences: int
    tokens: int
    epochs_before: float
    epochs_after: float


@dataclass(frozen=True)
class PhasePlan:
    """One phase in whole global batches. Steps are numbered from 1 over the run; sequences are those of model.sequence_length."""

    name: str
    first_step: int
    steps: int
    sequences: int
    tokens: int
    asked_tokens: int
    learning_rate: dict
    sources: dict[str, SourcePlan]
    batches: list[list[int]]  # [steps, sequences in each], in order
    sequence_length: int  # of what is trained on: model.sequence_length or a part of it
    flops_per_token: int
    data_seed: int | None = None
    stretches: list[dict[str, int]] = field(default_factory=list)  # source -> sequences, one for each where shares move


def first_position(recipe: Recipe, branch: BranchPoint | None) -> int:
    """Return the position a run begins at."""
    return branch.position(recipe.batch.stages[0][1]) if branch else 0


def drawn_before(recipe: Recipe, branch: BranchPoint | None) -> dict[str, int]:
    """Return corpus -> sequences read before this run began."""
    return {name: branch.consumed.get(name, 0) if branch else 0 for name in recipe.corpora}


def plan_phases(
    recipe: Recipe, per_epoch: Mapping[str, int], sizes: dict[str, int], branch: BranchPoint | None, vocab_size: int
) -> list[PhasePlan]:
    """Turn each phase's tokens into whole batches and its shares into sequences."""
    phases: list[PhasePlan] = []
    drawn, position, step = drawn_before(recipe, branch), first_position(recipe, branch), branch.step if branch else 0
    for phase in recipe.phases:
        runs = plan_batches(recipe.batch.stages, position, phase.tokens, recipe.model.sequence_length)
        planned = plan_phase(recipe, phase, step + 1, runs, counts_of(phase, runs, sizes), drawn, per_epoch, sizes, vocab_size)
        phases.append(planned)
        position, step = position + planned.sequences, step + planned.steps
    return phases


def counts_of(phase: Phase, runs: list[tuple[int, int]], sizes: dict[str, int]) -> list[dict[str, int]]:
    """Return source -> sequences for each stretch of a phase; there is one where shares stay."""
    total = sum(steps * size for steps, size in runs)
    if not is_moving(phase.mixture):
        return [apportion(total, flatten_mixture(phase.mixture, phase.tokens, sizes))]
    first, last = (flatten_mixture(phase.mixture[end], phase.tokens, sizes) for end in ("from", "to"))
    return apportion_moving(total, first, last, stretches_of(phase.mixture, total), is_stepped=bool(phase.mixture.get("stages")))


def plan_phase(
    recipe: Recipe,
    phase: Phase,
    first_step: int,
    runs: list[tuple[int, int]],
    rows: list[dict[str, int]],
    drawn: dict[str, int],
    per_epoch: Mapping[str, int],
    sizes: dict[str, int],
    vocab_size: int,
) -> PhasePlan:
    """Put one phase together; counts what it reads in `drawn`."""
    length, sources = recipe.model.sequence_length, {}
    for name, share in flatten_mixture(phase.mixture, phase.tokens, sizes).items():
        sequences, epoch = sum(row.get(name, 0) for row in rows), max(1, per_epoch[name])
        before, drawn[name] = drawn[name], drawn[name] + sequences
        sources[name] = SourcePlan(share, sequences, sequences * length, before / epoch, drawn[name] / epoch)
    total, own = sum(steps * size for steps, size in runs), phase.sequence_length or length
    return PhasePlan(
        name=phase.name,
        first_step=first_step,
        steps=sum(steps for steps, _ in runs),
        sequences=total,
        tokens=total * length,
        asked_tokens=phase.tokens,
        learning_rate=as_plain(phase.learning_rate),
        sources=sources,
        batches=[list(run) for run in runs],
        sequence_length=own,
        flops_per_token=training_flops_per_token(replace(recipe.model, sequence_length=own), vocab_size),
        data_seed=phase.data_seed,
        stretches=rows if is_moving(phase.mixture) else [],
    )
