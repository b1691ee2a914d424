"""Compute-equivalent gain: how many times the FLOPs the reference mixture would need for the loss that another one has.

The reference's losses over FLOPs, of each amount the best (or lower) ones alone, are joined by straight lines in the logarithm of FLOPs and read
at equal loss. Nothing is read beyond the reference's own runs: there the gain is at least, or at most, what the last of them says.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["ComputeGain", "compute_gains", "frontier"]


@dataclass(frozen=True, kw_only=True)
class ComputeGain:
    """One run of a mixture against the reference; `bound` is "at least" or "at most" where the reference has no such loss."""

    flops: float
    loss: float
    gain: float
    bound: str = ""


def frontier(flops: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs by FLOPs that have a lower loss than all cheaper ones; of equal cost the mean over seeds counts."""
    amounts, group = np.unique(np.round(np.log(flops), 6), return_inverse=True)
    means = np.bincount(group, weights=losses) / np.bincount(group)
    lowest = np.minimum.accumulate(means)
    kept = np.flatnonzero(np.concatenate([[True], means[1:] < lowest[:-1]]))
    return np.exp(amounts[kept]), means[kept]


def compute_gains(reference: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> list[ComputeGain]:
    """Return the gain at each run of `other`'s frontier; both are (FLOPs, losses) of runs, losses small when good."""
    flops, losses = frontier(*reference)
    gains = []
    for own_flops, loss in zip(*frontier(*other), strict=True):
        bound = "at least" if loss < losses[-1] else "at most" if loss > losses[0] else ""
        needed = float(np.exp(np.interp(-loss, -losses, np.log(flops))))
        gains.append(ComputeGain(flops=float(own_flops), loss=float(loss), gain=needed / float(own_flops), bound=bound))
    return gains
