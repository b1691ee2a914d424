"""Whether two runs differ: on the same items, pair by pair."""

import math
from dataclasses import dataclass

import numpy as np

from codemix_megatron.analysis.estimates import Estimate, estimate_mean, interval, resample_means

__all__ = ["NOT_DISTINGUISHABLE", "Difference", "compare_apart", "compare_paired", "compare_paired_ratio", "sign_test"]

NOT_DISTINGUISHABLE = "not distinguishable"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run minus another; `items` were answered by both, 0 where only standard errors were known."""

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    items: int

    @property
    def is_distinguishable(self) -> bool:
        """Say whether zero lies outside the 95 % interval."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def words(self) -> str:
        """Say the same in words."""
        return ("higher" if self.value > 0 else "lower") if self.is_distinguishable else NOT_DISTINGUISHABLE


def compare_paired(ours, theirs) -> Difference:
    """Compare two runs by their values on the same items in the same order; the bootstrap draws items, not runs."""
    estimate: Estimate = estimate_mean(np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64))
    return Difference(
        value=estimate.value, standard_error=estimate.standard_error, low=estimate.low, high=estimate.high, items=estimate.items
    )


def compare_paired_ratio(ours, theirs, denominators) -> Difference:
    """Compare two sums over the same denominators, as bits per byte are, item by item."""
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    denominators = np.asarray(denominators, dtype=np.float64)
    value, count = float(differences.sum() / denominators.sum()), len(differences)
    if count < 2:
        return Difference(value=value, standard_error=None, low=None, high=None, items=count)
    residuals = differences - value * denominators
    error = float(math.sqrt(count / (count - 1) * (residuals**2).sum()) / denominators.sum())
    above, below = resample_means(np.stack([differences, denominators], axis=1)).T
    low, high = interval(above / np.where(below == 0, np.nan, below))
    return Difference(value=value, standard_error=error, low=low, high=high, items=count)


def compare_apart(value: float, error: float | None, other: float, other_error: float | None) -> Difference:
    """Compare two values of which only standard errors are known, as if they came from different items: wider than need be."""
    if error is None or other_error is None or math.isnan(error) or math.isnan(other_error):
        return Difference(value=value - other, standard_error=None, low=None, high=None, items=0)
    both = math.hypot(error, other_error)
    difference = value - other
    return Difference(value=difference, standard_error=both, low=difference - 1.96 * both, high=difference + 1.96 * both, items=0)


def sign_test(wins: int, losses: int) -> float:
    """Return the exact two-sided probability of a split at least this uneven when both sides are equal; ties are left out.

    >>> sign_test(9, 1) < 0.05 < sign_test(7, 3)
    True
    """
    number, least = wins + losses, min(wins, losses)
    tail = sum(math.comb(number, k) for k in range(least + 1)) / 2**number
    return min(1.0, 2 * tail)
