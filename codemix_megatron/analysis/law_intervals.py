"""How far a law errs on mixtures it has not seen, as the half width of an interval for one run.

Split conformal intervals over the errors on runs not seen, in units of what those nearby were (Lei et al. 2018, arXiv 1604.04173, section
5.2). Of so few runs that no such interval exists - below nine for 90 % - it is Student's, with the root mean square of their errors: the
largest of six errors holds 6 in 7 new ones and not 9 in 10.
"""

import math

import numpy as np

__all__ = ["HeldOutSpread"]

LEAST_NEAR = 5


class HeldOutSpread:
    """Errors [runs] on runs not seen, and where these lie [runs, coordinates]."""

    def __init__(self, errors: np.ndarray, coordinates: np.ndarray):
        self.errors, self.coordinates = np.abs(errors), coordinates

    def half_width(self, points: np.ndarray, coverage: float) -> np.ndarray:
        """Return half the width [points] of an interval that holds a new run's value with this probability."""
        rank = math.ceil(coverage * (len(self.errors) + 1))
        if rank > len(self.errors):
            return np.full(len(points), self.student(coverage))
        relative = np.sort(self.errors / self.usual_error(self.coordinates, is_known=True))
        return relative[rank - 1] * self.usual_error(points, is_known=False)

    def student(self, coverage: float) -> float:
        """Return Student's half width: the root mean square error times the quantile for as many runs."""
        from scipy.special import stdtrit

        return float(stdtrit(len(self.errors) - 1, (1 + coverage) / 2)) * math.sqrt(float((self.errors**2).mean()))

    def usual_error(self, points: np.ndarray, is_known: bool) -> np.ndarray:
        """Return how large errors are near points [points]: the mean over the nearest runs, that of all mixed in; 1 for few runs.

        `is_known` leaves each run itself out.
        """
        near = len(self.errors) // 8
        if near < LEAST_NEAR:
            return np.ones(len(points))
        distance = ((points[:, None] - self.coordinates) ** 2).sum(axis=-1)
        if is_known:
            np.fill_diagonal(distance, np.inf)
        return self.errors[np.argpartition(distance, near, axis=1)[:, :near]].mean(axis=1) + 0.25 * self.errors.mean()
