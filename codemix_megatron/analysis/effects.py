"""What a change did: differences between runs, not between items. A run with one seed is one observation, however many items it answered."""

import math
from dataclasses import dataclass, replace

import numpy as np

__all__ = [
    "SIGNIFICANCE",
    "Effect",
    "RunNoise",
    "effect_of_pairs",
    "effect_from_constant",
    "effect_of_contrast",
    "effect_over_seeds",
    "effect_with_noise",
    "held_against",
    "holm",
    "pool_noise",
    "ratio_interval",
    "undecided",
]

SIGNIFICANCE = 0.05
NORMAL = 1e9  # degrees of freedom from which t is the normal distribution


@dataclass(frozen=True, kw_only=True)
class RunNoise:
    """The standard deviation that another seed alone would give; `degrees` of freedom it was measured with."""

    deviation: float
    degrees: float
    source: str  # in words: whose seeds these were


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Mean over the seeds of one variant minus that of its reference.

    `low` and `high` are a 95 % interval over runs; without run-level noise they are None, and so is `p_value`. `noise` names noise
    that was not measured on these runs but assumed.
    """

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    seeds: int
    base_seeds: int
    method: str = ""
    noise: str = ""

    @property
    def is_decidable(self) -> bool:
        """Say whether there is a run-level test at all."""
        return self.p_value is not None


def effect_over_seeds(ours, base) -> Effect:
    """Compare seeds of two variants by Welch's t test; undecided for fewer than two seeds on a side, or where no seed differs."""
    ours, base = np.asarray(ours, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if min(len(ours), len(base)) < 2 or (np.ptp(ours) == 0 and np.ptp(base) == 0):
        return undecided(ours, base)
    above, below = ours.var(ddof=1) / len(ours), base.var(ddof=1) / len(base)
    degrees = (above + below) ** 2 / (above**2 / (len(ours) - 1) + below**2 / (len(base) - 1))
    return replace(judged_by_t(undecided(ours, base), math.sqrt(above + below), degrees), method="Welch's t")


def effect_of_contrast(groups, weights) -> Effect:
    """Return the sum of weights times the means of groups of seeds, with Welch's standard error and Satterthwaite's degrees of freedom.

    With weights 1, -1, -1, 1 it says whether one difference is larger than another. Undecided where a group has one seed, or no seed differs.
    """
    groups = [np.asarray(group, dtype=np.float64) for group in groups]
    seeds, others = min(len(groups[0]), len(groups[1])), min(map(len, groups[2:]), default=0)
    value = float(sum(weight * group.mean() for weight, group in zip(weights, groups, strict=True)))
    plain = Effect(value=value, low=None, high=None, p_value=None, seeds=seeds, base_seeds=others)
    if min(map(len, groups)) < 2:
        return plain
    parts = [weight**2 * group.var(ddof=1) / len(group) for weight, group in zip(weights, groups, strict=True)]
    if sum(parts) == 0:
        return plain
    degrees = sum(parts) ** 2 / sum(part**2 / (len(group) - 1) for part, group in zip(parts, groups, strict=True))
    return replace(judged_by_t(plain, math.sqrt(sum(parts)), degrees), method="Welch's t of a contrast")


def effect_of_pairs(ours, base) -> Effect:
    """Compare variants seed by seed, where both went on from the same trunk with each seed: Student's t of the differences."""
    ours, base = np.asarray(ours, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if len(ours) < 2 or np.ptp(ours - base) == 0:
        return undecided(ours, base)
    error = float((ours - base).std(ddof=1)) / math.sqrt(len(ours))
    return replace(judged_by_t(undecided(ours, base), error, len(ours) - 1), method="paired t")


def held_against(effect: Effect, noise: RunNoise | None) -> Effect:
    """Return an effect with the larger of its own p value and that by the noise of all repeated variants of the study.

    With three seeds a variant's own spread is small by chance now and then, and Welch's test liberal so far out in the tail as Holm's
    correction takes it where variants differ in noise. A verdict needs a difference that is large by the study's noise too. The
    interval stays the pair's own.
    """
    if noise is None or effect.p_value is None:
        return effect
    error = noise.deviation * math.sqrt(1 / effect.seeds + 1 / effect.base_seeds)
    pooled = judged_by_t(effect, error, noise.degrees).p_value
    return replace(effect, p_value=max(effect.p_value, pooled or 0.0))


def effect_from_constant(ours, base: float) -> Effect:
    """Compare seeds with a value that no seed changes, such as that of the untouched model they began from: Student's t of one sample."""
    ours = np.asarray(ours, dtype=np.float64)
    plain = undecided(ours, [base])
    if len(ours) < 2 or np.ptp(ours) == 0:
        return plain
    return replace(judged_by_t(plain, float(ours.std(ddof=1)) / math.sqrt(len(ours)), len(ours) - 1), method="one-sample t")


def effect_with_noise(ours, base, noise: RunNoise) -> Effect:
    """Compare variants by noise that was measured on other runs; a t test with that noise's degrees of freedom."""
    ours, base = np.asarray(ours, dtype=np.float64), np.asarray(base, dtype=np.float64)
    plain = undecided(ours, base)
    if not noise.deviation > 0:
        return plain
    error = noise.deviation * math.sqrt(1 / len(ours) + 1 / len(base))
    return replace(judged_by_t(plain, error, noise.degrees), method="assumed noise", noise=noise.source)


def judged_by_t(effect: Effect, error: float, degrees: float) -> Effect:
    """Return an effect with interval and p value of Student's t; scipy.special has it without the 0.5 ms of scipy.stats."""
    from scipy.special import stdtr, stdtrit

    degrees = min(degrees, NORMAL)
    reach = float(stdtrit(degrees, 1 - SIGNIFICANCE / 2)) * error
    p_value = float(2 * stdtr(degrees, -abs(effect.value) / error))
    return replace(effect, low=effect.value - reach, high=effect.value + reach, p_value=p_value)


def undecided(ours, base) -> Effect:
    """Return the difference alone: there is nothing to judge it by."""
    value = float(np.mean(ours) - np.mean(base))
    return Effect(value=value, low=None, high=None, p_value=None, seeds=len(ours), base_seeds=len(base))


def pool_noise(groups, source: str) -> RunNoise | None:
    """Return the noise of variants that were repeated by seed: the root mean square of their deviations, weighted by degrees of freedom.

    `groups` hold one value for each seed of a variant; those with one seed say nothing. None where no seed differs.
    """
    groups = [np.asarray(group, dtype=np.float64) for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in groups)
    squares = math.fsum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return RunNoise(deviation=math.sqrt(squares / degrees), degrees=degrees, source=source) if squares > 0 else None


def holm(p_values) -> list[float]:
    """Return Holm's adjusted p values (1979): the chance of any false verdict in the family stays below the one they are held against.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def ratio_interval(ours, base) -> tuple[float, float, float] | None:
    """Return the ratio of two means over seeds with its 95 % interval by Fieller's theorem (1954); degrees of freedom are Welch's.

    None for fewer than two seeds, and where the base cannot be told from zero: its ratio has no bounds.
    """
    ours, base = np.asarray(ours, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if min(len(ours), len(base)) < 2 or base.mean() == 0:
        return None
    from scipy import stats

    above, below = ours.var(ddof=1) / len(ours), base.var(ddof=1) / len(base)
    ratio = float(ours.mean() / base.mean())
    scaled = ratio**2 * below
    if above + scaled == 0:
        return None
    degrees = (above + scaled) ** 2 / (above**2 / (len(ours) - 1) + scaled**2 / (len(base) - 1))
    quantile = stats.t.ppf(1 - SIGNIFICANCE / 2, degrees) ** 2
    square = base.mean() ** 2 - quantile * below
    if square <= 0:
        return None
    middle, last = ours.mean() * base.mean(), ours.mean() ** 2 - quantile * above
    root = math.sqrt(max(0.0, middle**2 - square * last))
    return ratio, float((middle - root) / square), float((middle + root) / square)
