"""Whether two models answer differently: on the same items, pair by pair. What another seed would change is for `effects`."""

import math
from dataclasses import dataclass

import numpy as np

from codemix_megatron.analysis.effects import SIGNIFICANCE
from codemix_megatron.analysis.estimates import Estimate, estimate_mean, interval, resample_means

__all__ = ["NOT_DISTINGUISHABLE", "Difference", "compare_apart", "compare_paired", "compare_paired_ratio", "mcnemar", "sign_test"]

NOT_DISTINGUISHABLE = "not distinguishable"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run minus another; `items` were answered by both, 0 where only standard errors were known."""

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    items: int
    p_value: float | None = None  # of the exact test, where there is one

    @property
    def is_distinguishable(self) -> bool:
        """Say whether an exact test says so, and where there is none, whether zero lies outside the 95 % interval."""
        if self.p_value is not None:
            return self.p_value < SIGNIFICANCE
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def words(self) -> str:
        """Say the same in words."""
        return ("higher" if self.value > 0 else "lower") if self.is_distinguishable else NOT_DISTINGUISHABLE


def compare_paired(ours, theirs) -> Difference:
    """Compare two runs by their values on the same items in the same order; the bootstrap draws items, not runs.

    Right and wrong answers are judged by McNemar's exact test: few items that changed can look certain to a bootstrap. The interval
    is then the wider one of the bootstrap's and the exact one over the items that changed.
    """
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    estimate: Estimate = estimate_mean(ours - theirs)
    low, high, p_value = estimate.low, estimate.high, None
    if low is not None and high is not None and np.isin(ours, (0, 1)).all() and np.isin(theirs, (0, 1)).all():
        better, worse = int((ours > theirs).sum()), int((ours < theirs).sum())
        p_value = mcnemar(better, worse)
        edges = exact_edges(better, worse, len(ours))
        low, high = min(low, edges[0]), max(high, edges[1])
    return Difference(
        value=estimate.value, standard_error=estimate.standard_error, low=low, high=high, items=estimate.items, p_value=p_value
    )  # fmt: skip


def mcnemar(better: int, worse: int) -> float:
    """Return McNemar's exact two-sided p over the items that one model got right and the other wrong.

    >>> mcnemar(4, 0)
    0.125
    """
    return sign_test(better, worse)


def exact_edges(better: int, worse: int, items: int) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of the share that got better among the changed items, as a difference over all items."""
    changed = better + worse
    if not changed:
        return 0.0, 0.0
    from scipy.stats import binomtest

    share = binomtest(better, changed).proportion_ci(0.95)
    return (2 * share.low - 1) * changed / items, (2 * share.high - 1) * changed / items


def compare_paired_ratio(ours, theirs, denominators) -> Difference:
    """Compare two sums over the same denominators, as bits per byte are, item by item."""
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    denominators = np.asarray(denominators, dtype=np.float64)
    value, count = float(differences.sum() / denominators.sum()), len(differences)
    if count < 2 or not math.isfinite(value):
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
