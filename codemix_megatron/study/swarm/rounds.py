"""Rounds of a swarm: which mixtures are trained, and the study that says so.

The first round has the anchors (the base recipe's mixtures, and their reverse order where they differ), each with several seeds, and the
drawn runs. Later ones have the best mixture with the anchors' seeds, some for exploring, and controls. Each trunk has a seed of its
own, so that the error of a law holds the noise of seeds.
"""

from dataclasses import dataclass

import numpy as np

from codemix_megatron.analysis.law_design import design_runs, draw_runs
from codemix_megatron.analysis.law_views import Proposal
from codemix_megatron.study.swarm.settings import SwarmSettings
from codemix_megatron.study.swarm.space import Space

__all__ = ["SwarmRun", "first_round", "next_round", "study_of"]

SEEDS_OF_A_ROUND = 1000  # apart from those of the round before


@dataclass(frozen=True, kw_only=True)
class SwarmRun:
    """One variant: its mixture [phases][domains], what it is for, and its seed."""

    name: str
    purpose: str
    seed: int
    shares: list[list[float]]


def first_round(space: Space, settings: SwarmSettings) -> list[SwarmRun]:
    """Return anchors and drawn runs."""
    trunks = min(settings.trunks or settings.runs, settings.runs)
    if settings.design == "d-optimal":
        drawn = design_runs(space.weights, space.bounds, settings.runs, trunks=settings.trunks, seed=space.seed)
    else:
        drawn = draw_runs(
            space.prior, space.weights, space.bounds, settings.runs, strengths=settings.strength, trunks=trunks, seed=space.seed
        )
    seeds = seeds_of_trunks(drawn, space.seed + settings.seeds)
    width = len(str(len(drawn)))
    mixes = [SwarmRun(name=f"mix-{i + 1:0{width}}", purpose="drawn", seed=seeds[i], shares=run.tolist()) for i, run in enumerate(drawn)]
    return [*anchors(space, settings.seeds), *mixes]


def anchors(space: Space, seeds: int) -> list[SwarmRun]:
    """Return the base recipe's mixtures and, where phases differ, the same in reverse order, with several seeds."""
    named = {"base": space.base}
    if np.abs(space.base - space.base[::-1]).max() > 0.01 and space.keeps(space.base[::-1]):
        named["reversed"] = space.base[::-1]
    return [run for name, shares in named.items() for run in with_seeds(name, f"anchor: {name}", shares, space.seed, seeds)]


def with_seeds(name: str, purpose: str, shares: np.ndarray, first: int, seeds: int) -> list[SwarmRun]:
    """Return one mixture with several seeds."""
    return [
        SwarmRun(name=f"{name}-seed-{seed}", purpose=purpose, seed=seed, shares=np.asarray(shares).tolist())
        for seed in range(first, first + seeds)
    ]


def seeds_of_trunks(drawn: np.ndarray, first: int) -> list[int]:
    """Return a seed for each run [runs, phases, domains], the same for those with one first phase."""
    known: dict[bytes, int] = {}
    return [known.setdefault(np.round(run[0], 9).tobytes(), first + len(known)) for run in drawn]


def next_round(number: int, space: Space, settings: SwarmSettings, proposals: list[Proposal]) -> list[SwarmRun]:
    """Return the runs of a later round: the best with the anchors' seeds, the others with one of their own."""
    runs = []
    for index, proposal in enumerate(proposals):
        shares = shares_of(proposal, space)
        if not space.keeps(shares):
            continue  # a control, such as one in proportion to size, may ask for more than there is
        name = f"round-{number}-{proposal.purpose.removeprefix('control: ').replace(' ', '-')}"
        if proposal.purpose == "best":
            runs += with_seeds(name, "best", shares, space.seed, settings.seeds)
        else:
            seed = space.seed + SEEDS_OF_A_ROUND * number + index
            runs.append(SwarmRun(name=name, purpose=proposal.purpose, seed=seed, shares=shares.tolist()))
    return runs


def shares_of(proposal: Proposal, space: Space) -> np.ndarray:
    """Return a proposal's shares within each phase [phases, domains]; one over whole runs is the same in every phase."""
    whole = np.array(list(proposal.shares.values())).reshape(-1, len(space.domains))
    if not proposal.phases:
        whole = np.repeat(whole, len(space.phases), axis=0)
    return whole / whole.sum(axis=1, keepdims=True)


def study_of(name: str, space: Space, settings: SwarmSettings, runs: list[SwarmRun]) -> dict:
    """Return the study that trains all runs so far, as a study's file says it; what earlier rounds trained is left alone by it."""
    variants = {}
    for run in runs:
        mixtures = {f"phases.{phase}.mixture": space.mixture(i, np.array(run.shares[i])) for i, phase in enumerate(space.phases)}
        variants[run.name] = {"overrides": {"seed": run.seed, **mixtures}}
    return {
        "name": name,
        "base": settings.base,
        "variants": variants,
        "score": {"suites": list(settings.suites)} if settings.suites else "none",
    }
