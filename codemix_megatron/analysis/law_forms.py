"""Forms of laws from mixtures to a metric. Each has `fit(x, y)`, `refit(x, y)` (what was tuned is kept) and `predict(x)`.

log_linear         c + exp(k + t . x), monotone in each share (Data Mixing Laws, arXiv 2403.16952; Olmix's log_linear); may be extrapolated
quadratic          b . x + sum of b_ij x_i x_j, Scheffe's polynomial for mixtures (1958), with a ridge: an optimum may lie inside
gaussian_process   any smooth shape over log(share + 0.003): the first percent of a domain counts more than its last
boosting           trees (RegMix, arXiv 2407.01492): any shape, needs a hundred runs, knows nothing beyond them
chinchilla         a term of its own for parameters and tokens (law_sizes.py), where runs differ in them; may be extrapolated
farseer            the same, more freely; only where it is asked for

x is [points, features]: shares first, then logarithms of sizes.
"""

import warnings
from typing import Any

import numpy as np

from codemix_megatron.analysis.law_form import Form
from codemix_megatron.analysis.law_sizes import Chinchilla, Farseer

__all__ = ["EXTRAPOLATING", "FORMS", "USUAL", "make_form"]

SEED = 20240820
FLOORS = 12  # values of c tried
SMALLEST_SHARE = 0.003  # added before logarithms; RegMix's shares have three digits
RIDGES = np.geomspace(1e-4, 1e3, 22)


class LogLinear(Form):
    """c + exp(k + t . x), fitted by least squares on log(y - c) for the start and on y for the end."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "LogLinear":
        """Fit; the best of several floors c is taken on from there."""
        from scipy.optimize import least_squares

        spread = max(float(y.max() - y.min()), 1e-9)
        starts = []
        for below in np.geomspace(0.02, 20, FLOORS):
            floor = float(y.min()) - below * spread
            design = np.column_stack([np.ones(len(x)), x])
            # A touch of ridge: shares sum to 1, so the constant is among their combinations.
            start = np.linalg.solve(design.T @ design + 1e-6 * len(x) * np.eye(design.shape[1]), design.T @ np.log(y - floor))
            starts.append((float(((floor + np.exp(design @ start) - y) ** 2).sum()), floor, start))
        _, floor, start = min(starts, key=lambda found: found[0])

        def residuals(parameters):
            values = parameters[0] + np.exp(np.clip(parameters[1] + x @ parameters[2:], -50, 50)) - y
            return np.append(values, 1e-4 * spread * parameters[2:])

        self.parameters = least_squares(residuals, np.concatenate([[floor], start]), max_nfev=400).x
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predicted values."""
        return self.parameters[0] + np.exp(np.clip(self.parameters[1] + x @ self.parameters[2:], -50, 50))

    def coefficients(self) -> np.ndarray:
        """Return c, k and t."""
        return self.parameters


class Quadratic(Form):
    """A polynomial of second degree in shares, linear in logarithms of sizes; the ridge is chosen by leave-one-out."""

    ridge: float | None = None

    def terms(self, x: np.ndarray) -> np.ndarray:
        """Return the features and the products of shares."""
        first, second = np.triu_indices(self.num_shares, 1)
        return np.hstack([x, x[:, first] * x[:, second]])

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Quadratic":
        """Fit on standardised terms."""
        from sklearn.linear_model import RidgeCV

        terms = self.terms(x)
        self.middle, self.scale = terms.mean(axis=0), terms.std(axis=0) + 1e-9
        self.regression = RidgeCV(RIDGES if self.ridge is None else [self.ridge]).fit((terms - self.middle) / self.scale, y)
        self.ridge = float(self.regression.alpha_)
        return self

    def refit(self, x: np.ndarray, y: np.ndarray) -> "Quadratic":
        """Return another one with the same ridge."""
        other = Quadratic(self.num_shares)
        other.ridge = self.ridge
        return other.fit(x, y)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predicted values."""
        return self.regression.predict((self.terms(x) - self.middle) / self.scale)


class GaussianProcess(Form):
    """A smooth function with noise; lengths and noise are those of greatest likelihood."""

    kernel: Any = None
    BLOCK = 8192  # points predicted together: memory goes with points x runs

    def fit(self, x: np.ndarray, y: np.ndarray) -> "GaussianProcess":
        """Fit, tuning the kernel unless it was given."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        coordinates = self.coordinates(x)
        self.middle, self.scale = coordinates.mean(axis=0), coordinates.std(axis=0) + 1e-9
        kernel = self.kernel or ConstantKernel(1.0) * RBF(3.0) + WhiteKernel(0.1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length or the noise at its bound is no fault
            self.process = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=None if self.kernel else "fmin_l_bfgs_b")
            self.process.fit((coordinates - self.middle) / self.scale, y)
        self.kernel = self.process.kernel_
        return self

    def coordinates(self, x: np.ndarray) -> np.ndarray:
        """Return logarithms of shares beside those of sizes."""
        return np.hstack([np.log(x[:, : self.num_shares] + SMALLEST_SHARE), x[:, self.num_shares :]])

    def refit(self, x: np.ndarray, y: np.ndarray) -> "GaussianProcess":
        """Return another one with the same kernel."""
        other = GaussianProcess(self.num_shares)
        other.kernel = self.kernel
        return other.fit(x, y)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predicted values."""
        coordinates = (self.coordinates(x) - self.middle) / self.scale
        blocks = [coordinates[i : i + self.BLOCK] for i in range(0, len(coordinates), self.BLOCK)]
        return np.concatenate([self.process.predict(block) for block in blocks])


class Boosting(Form):
    """Gradient-boosted trees that stop before they learn the noise."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Boosting":
        """Fit; checks of what it is given are left out, for they take a third of the time of so small trees."""
        from sklearn import config_context
        from sklearn.ensemble import GradientBoostingRegressor

        with config_context(skip_parameter_validation=True, assume_finite=True):
            self.trees = GradientBoostingRegressor(
                n_estimators=400, learning_rate=0.1, max_depth=4, subsample=0.7, min_samples_leaf=3, validation_fraction=0.15,
                n_iter_no_change=18, random_state=SEED,
            ).fit(x, y)  # fmt: skip
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predicted values."""
        return self.trees.predict(x)


FORMS: dict[str, type[Form]] = {
    "log_linear": LogLinear,
    "quadratic": Quadratic,
    "gaussian_process": GaussianProcess,
    "boosting": Boosting,
    "chinchilla": Chinchilla,
    "farseer": Farseer,
}
USUAL = tuple(name for name in FORMS if name != "farseer")
EXTRAPOLATING = ("chinchilla", "farseer", "log_linear")  # may be asked at sizes beyond those of the runs


def make_form(kind: str, num_shares: int) -> Form:
    """Return an unfitted law of a kind."""
    return FORMS[kind](num_shares)
