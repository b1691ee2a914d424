"""How far a number can be trusted: standard errors, bootstrap intervals, seeds, pass@k."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = [
    "Estimate",
    "SeedSpread",
    "estimate_mean",
    "estimate_ratio",
    "interval",
    "pass_at_k",
    "resample_means",
    "spread_over_seeds",
]

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20240820  # the same records give the same intervals
CHUNK = 2**22  # indices drawn at once
MOST_COUNTED = 10_000  # items whose draws are kept as a matrix of counts, of 60 MB then


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its standard error and 95 % bootstrap interval over items; errors are None where one item cannot give them."""

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    items: int


def estimate_mean(values) -> Estimate:
    """Return the mean of one value per item; the standard error is std / sqrt(items) with items - 1 degrees of freedom, as in lm-eval."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values.mean()):  # draws without an item that is not finite would give an interval
        return Estimate(value=float(values.mean()), standard_error=None, low=None, high=None, items=len(values))
    low, high = interval(resample_means(values))
    error = float(values.std(ddof=1) / math.sqrt(len(values)))
    return Estimate(value=float(values.mean()), standard_error=error, low=low, high=high, items=len(values))


def estimate_ratio(numerators, denominators) -> Estimate:
    """Return sum / sum over items with the linearised standard error (Cochran, Sampling Techniques, 6.4)."""
    numerators, denominators = (np.asarray(values, dtype=np.float64) for values in (numerators, denominators))
    ratio, count = float(numerators.sum() / denominators.sum()), len(numerators)
    if count < 2 or not math.isfinite(ratio):
        return Estimate(value=ratio, standard_error=None, low=None, high=None, items=count)
    residuals = numerators - ratio * denominators
    error = float(math.sqrt(count / (count - 1) * (residuals**2).sum()) / denominators.sum())
    above, below = resample_means(np.stack([numerators, denominators], axis=1)).T
    low, high = interval(above / np.where(below == 0, np.nan, below))
    return Estimate(value=ratio, standard_error=error, low=low, high=high, items=count)


def resample_means(values: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Return the means of `resamples` draws with replacement from items [items, ...]; the same draws for as many items."""
    if len(values) > MOST_COUNTED:
        return np.concatenate([values[drawn].mean(axis=1) for drawn in draw_items(len(values), resamples)])
    times = count_draws(len(values), resamples)
    columns = values.reshape(len(values), -1).T
    means = np.stack([times @ column for column in columns], axis=1) / len(values)
    return means.reshape(resamples, *values.shape[1:])


def draw_items(count: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield indices of drawn items [draws, items], some draws at a time."""
    random, step = np.random.default_rng(SEED), max(1, CHUNK // count)
    for start in range(0, resamples, step):
        yield random.integers(0, count, (min(step, resamples - start), count))


@lru_cache(2)
def count_draws(count: int, resamples: int):
    """Return how often each draw took each item [resamples, items], sparse: means over draws are a product with it, ten times as fast."""
    from scipy.sparse import csr_array

    columns = np.concatenate(list(draw_items(count, resamples))).ravel().astype(np.int32)
    starts = np.arange(0, len(columns) + 1, count, dtype=np.int32)
    times = csr_array((np.ones(len(columns), dtype=np.uint8), columns, starts), shape=(resamples, count))
    times.sum_duplicates()
    return times


def interval(means: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of resampled values."""
    edge = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(means, [edge, 100 - edge])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """The same run with several seeds."""

    mean: float
    deviation: float  # standard deviation over seeds
    seeds: int


def spread_over_seeds(values) -> SeedSpread | None:
    """Return mean and standard deviation over seeds, None for fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return None
    return SeedSpread(mean=float(values.mean()), deviation=float(values.std(ddof=1)), seeds=len(values))


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Return the unbiased estimate of solving a problem with k tries from `passed` of `samples` (Chen et al. 2021, eq. 1).

    >>> round(pass_at_k(10, 1, 1), 3), pass_at_k(5, 5, 3), pass_at_k(5, 0, 3)
    (0.1, 1.0, 0.0)
    """
    if not 0 <= passed <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {passed} in {samples} samples: needs 0 <= passed <= samples and 1 <= k <= samples")
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)
