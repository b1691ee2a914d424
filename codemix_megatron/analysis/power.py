"""How often an effect of a given size is found, before any run is trained."""

import math

from codemix_megatron.analysis.effects import SIGNIFICANCE, RunNoise

__all__ = ["lent_power", "seeds_needed", "welch_power"]

POINTS = 256  # of the integral over the ratio of the two variances


def welch_power(effect: float, deviation: float, seeds: int, comparisons: int = 1) -> float:
    """Return how often Welch's test finds a difference between two variants of `seeds` runs each, with one noise for both.

    `comparisons` are those of the family that Holm's correction is over: one true effect among them has to pass the first step. Exact
    up to the integral: given the ratio of the two sample variances the statistic is a noncentral t, and the ratio fixes the critical value.
    """
    if seeds < 2:
        return 0.0
    from numpy import arange, nan_to_num
    from scipy import stats

    quantiles = (arange(POINTS) + 0.5) / POINTS
    ratio = stats.beta((seeds - 1) / 2, (seeds - 1) / 2).ppf(quantiles)
    degrees = (seeds - 1) / (ratio**2 + (1 - ratio) ** 2)
    critical = stats.t.ppf(1 - SIGNIFICANCE / comparisons / 2, degrees)
    shift = abs(effect) / (deviation * math.sqrt(2 / seeds))
    law = stats.nct(2 * (seeds - 1), shift)
    # Far from it scipy's noncentral t is NaN where it is 0: an effect found with the wrong sign.
    return float((law.sf(critical) + nan_to_num(law.cdf(-critical))).mean())


def lent_power(effect: float, noise: RunNoise, seeds: int, comparisons: int = 1) -> float:
    """Return how often a difference between variants of `seeds` runs each is found with lent noise, where that is the true one."""
    from scipy import stats

    law = stats.t(noise.degrees) if math.isfinite(noise.degrees) else stats.norm()
    critical = law.ppf(1 - SIGNIFICANCE / comparisons / 2)
    shift = abs(effect) / (noise.deviation * math.sqrt(2 / seeds))
    return float(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift))


def seeds_needed(effect: float, deviation: float, comparisons: int = 1, power: float = 0.8, most: int = 64) -> int | None:
    """Return the fewest seeds of each variant that find a difference with this power, None where `most` are too few."""
    if welch_power(effect, deviation, most, comparisons) < power:
        return None
    low, high = 1, most  # low finds it too seldom, high often enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if welch_power(effect, deviation, middle, comparisons) >= power else (middle, high)
    return high
