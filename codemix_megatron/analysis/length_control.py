"""Win rates beside what the length of answers explains: judges like long answers, so part of a win rate may be nothing else.

As in AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475) a logistic regression explains who was preferred by the difference in length,
tanh of it in standard deviations; the length-controlled win rate is what it gives for answers of equal length. Here every pair was judged in
both orders, so the position is a regressor too. Intervals are of a bootstrap over prompts: both verdicts on a prompt, and all pairs of the
same prompt, are drawn together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codemix_megatron.analysis.estimates import SEED, interval

__all__ = ["ControlledWinRate", "control_length", "fit_logistic"]

RESAMPLES = 1000
FEWEST_PROMPTS = 8  # with fewer a regression of three coefficients says nothing
STEPS, RIDGE, LARGEST = 30, 1e-6, 30.0  # of Newton's method; the ridge keeps it bounded where answers of one side always win


@dataclass(frozen=True, kw_only=True)
class ControlledWinRate:
    """Raw and length-controlled win rate with 95 % intervals over prompts; the controlled ones are None where lengths explain nothing apart."""

    low: float
    high: float
    controlled: float | None = None
    controlled_low: float | None = None
    controlled_high: float | None = None


def control_length(preferred: np.ndarray, characters: np.ndarray, prompts: Sequence[str]) -> ControlledWinRate | None:
    """Return the intervals of a win rate, and the win rate at equal lengths; None for fewer than two prompts.

    `preferred` [pairs, 2] says whether ours was preferred where it stood first and where it stood second, `characters` [pairs] how
    much longer ours is.
    """
    preferred, characters = np.asarray(preferred, dtype=np.float64), np.asarray(characters, dtype=np.float64)
    names, cluster = np.unique(np.asarray(prompts, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    drawn = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)[:, cluster]
    low, high = interval(drawn @ preferred.mean(axis=1) / drawn.sum(axis=1))
    spread = characters.std()
    if len(names) < FEWEST_PROMPTS or spread == 0 or preferred.min() == preferred.max():
        return ControlledWinRate(low=low, high=high)
    position = np.tile([0.5, -0.5], len(preferred))
    regressors = np.stack([np.ones(len(position)), np.repeat(np.tanh(characters / spread), 2), position], axis=1)
    weights = np.concatenate([np.ones((1, len(position))), np.repeat(drawn, 2, axis=1)])
    controlled = at_equal_length(fit_logistic(regressors, preferred.ravel(), weights))
    below, above = interval(controlled[1:])
    return ControlledWinRate(low=low, high=high, controlled=float(controlled[0]), controlled_low=below, controlled_high=above)


def at_equal_length(coefficients: np.ndarray) -> np.ndarray:
    """Return the chance to be preferred, over both positions, where answers are of equal length [fits]."""
    return sigmoid(coefficients[:, :1] + coefficients[:, 2:] * np.array([[0.5, -0.5]])).mean(axis=1)


def fit_logistic(regressors: np.ndarray, outcomes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the coefficients [fits, regressors] of logistic regressions that differ in the weights [fits, rows] of the same rows."""
    found = np.zeros((len(weights), regressors.shape[1]))
    products = regressors[:, :, None] * regressors[:, None, :]
    for _ in range(STEPS):
        expected = sigmoid(found @ regressors.T)
        gradient = (weights * (outcomes - expected)) @ regressors - RIDGE * found
        curvature = np.tensordot(weights * expected * (1 - expected), products, axes=1) + RIDGE * np.eye(found.shape[1])
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        found = np.clip(found + step, -LARGEST, LARGEST)
        if np.abs(step).max() < 1e-9:
            break
    return found


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-values))."""
    from scipy.special import expit

    return expit(values)
