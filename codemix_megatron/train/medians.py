"""Each value beside the median of the others, for thousands of ranks or nodes at once."""

import numpy as np

__all__ = ["others_median"]


def others_median(values: np.ndarray) -> np.ndarray:
    """Return for each of at least two values the median of the others."""
    order = np.argsort(values, kind="stable")
    ordered, rank = values[order], np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values))

    def nth_other(n: int) -> np.ndarray:
        return np.where(rank > n, ordered[n], ordered[min(n + 1, len(values) - 1)])

    others = len(values) - 1
    return (nth_other((others - 1) // 2) + nth_other(others // 2)) / 2
