"""The learning rate over a whole run, thinned to what a figure shows."""

import numpy as np

from codemix_megatron.recipe.schedule import learning_rate_at
from codemix_megatron.recipe.schema import LearningRate

__all__ = ["learning_rate_curve"]

POINTS = 180


def learning_rate_curve(phases, batch_tokens: int, shift_tokens: int = 0) -> list[list[float]]:
    """Return [tokens after a step, its rate] for about 180 steps: spread evenly, with the ends and corners of every phase.

    `shift_tokens` is how far a branch is ahead of its steps times its own batch, after parents with other batches.
    """
    total, curve = sum(phase.steps for phase in phases), []
    for phase in phases:
        rate = LearningRate(**phase.learning_rate)
        for index in shown_steps(rate, phase.steps, max(2, POINTS * phase.steps // total), batch_tokens):
            curve.append(
                [(phase.first_step + index) * batch_tokens + shift_tokens, learning_rate_at(rate, index, phase.steps, batch_tokens)]
            )
    return curve


def shown_steps(rate: LearningRate, steps: int, points: int, batch_tokens: int) -> list[int]:
    """Return steps of a phase, from 0: evenly spread ones, the end of the warm-up and the beginning of a wsd decay."""
    corners = [-(-rate.warmup_tokens // batch_tokens) - 1]
    if rate.schedule == "wsd":
        corners.append(steps - max(1, round(rate.decay_share * steps)) - 1)
    even = np.linspace(0, steps - 1, min(points, steps)).round().astype(int).tolist()
    return sorted({*even, *(corner for corner in corners if 0 <= corner < steps)})
