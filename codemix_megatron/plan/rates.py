"""The learning rate over a whole run: of each step, and thinned to what a figure shows."""

import math

import numpy as np

from codemix_megatron.plan.batches import position_after, steps_to
from codemix_megatron.plan.phases import PhasePlan
from codemix_megatron.recipe.schedule import learning_rate_at
from codemix_megatron.recipe.schema import LearningRate

__all__ = ["learning_rate_curve", "step_rate"]

POINTS = 180


def step_rate(rate: LearningRate, phase: PhasePlan, step: int, length: int) -> float:
    """Return the rate of a step of a phase, by the tokens of the phase that are seen after it.

    They are counted in the largest unit that all its batches are whole multiples of, so that with one size the unit is a step.
    """
    unit = unit_of(phase)
    done = position_after(step, phase.first_step - 1, 0, phase.batches) // unit
    return learning_rate_at(rate, done - 1, phase.sequences // unit, unit * length)


def unit_of(phase: PhasePlan) -> int:
    """Return the largest number of sequences that every batch of a phase is a multiple of."""
    return math.gcd(*(size for _, size in phase.batches))


def learning_rate_curve(phases: list[PhasePlan], length: int, first: int) -> list[list[float]]:
    """Return [tokens after a step, its rate] for about 180 steps: spread evenly, with the ends and corners of every phase.

    `first` is the position the run begins at.
    """
    total, curve = sum(phase.steps for phase in phases), []
    for phase in phases:
        rate = LearningRate(**phase.learning_rate)
        for index in shown_steps(rate, phase, max(2, POINTS * phase.steps // total), length):
            step = phase.first_step + index
            seen = first + position_after(step, phase.first_step - 1, 0, phase.batches)
            curve.append([seen * length, step_rate(rate, phase, step, length)])
        first += phase.sequences
    return curve


def shown_steps(rate: LearningRate, phase: PhasePlan, points: int, length: int) -> list[int]:
    """Return steps of a phase, from 0: evenly spread ones, the end of the warm-up and the beginning of a wsd decay."""
    corners = [steps_to(-(-rate.warmup_tokens // length), phase.batches) - 1]
    if rate.schedule == "wsd":
        unit = unit_of(phase)
        units = phase.sequences // unit
        corners.append(steps_to((units - max(1, round(rate.decay_share * units))) * unit, phase.batches) - 1)
    even = np.linspace(0, phase.steps - 1, min(points, phase.steps)).round().astype(int).tolist()
    return sorted({*even, *(corner for corner in corners if 0 <= corner < phase.steps)})
