"""Forms of laws with a term for parameters and tokens, beside one for the mixture that does not depend on them. Fitted with scipy.

chinchilla   E + exp(k + t . shares) + A / N^alpha + B / D^beta (Hoffmann et al. 2022; with mixtures as in arXiv 2507.09404, additive)
farseer      exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^-exp(a1 N^alpha + b1) + exp(k + t . shares): how fast tokens help depends on
             the size (Li et al. 2025, arXiv 2506.10972, equation 1)

x is [points, shares and logarithms of sizes]. Where all mixtures are alike there is no term for them, and c is E.
"""

from collections.abc import Callable
from itertools import product

import numpy as np

from codemix_megatron.analysis.law_form import Form

__all__ = ["Chinchilla", "Farseer"]

EXPONENTS = (0.1, 0.25, 0.4, 0.6)  # begun from
BEST_STARTS = 3
LEAST_SPREAD = 1e-6
TINY_RIDGE = 1e-5


class Chinchilla(Form):
    """c + exp(k + t . s) + A N^-alpha + B D^-beta; with one size that varies, its term alone."""

    least_sizes = 1
    has_mixture: bool | None = None
    parameters: np.ndarray | None = None

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Chinchilla":
        """Fit by least squares from several exponents; the best end is kept."""
        if self.has_mixture is None:
            self.has_mixture = bool(x[:, : self.num_shares].std(axis=0).max() > LEAST_SPREAD)
        starts = [self.parameters] if self.parameters is not None else self.starts(x, y)
        self.parameters = best_end(self.values, starts, x, y)
        return self

    def refit(self, x: np.ndarray, y: np.ndarray) -> "Chinchilla":
        """Return another one, begun where this one ended."""
        other = type(self)(self.num_shares)
        other.has_mixture, other.parameters = self.has_mixture, self.parameters
        return other.fit(x, y)

    def starts(self, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        """Return parameters to begin from: for given exponents, and a mixture's term made linear, the rest is a linear problem."""
        shares, logs = x[:, : self.num_shares], x[:, self.num_shares :]
        level, found = max(float(y.std()), 1e-3), []
        for exponents in product(EXPONENTS, repeat=logs.shape[1]):
            sizes = np.exp(-np.array(exponents) * (logs - logs.mean(axis=0)))
            design = np.column_stack([np.ones(len(x)), sizes, *([shares - shares.mean(axis=0)] if self.has_mixture else [])])
            ridge = 1e-8 * len(x) * np.eye(design.shape[1])
            solved = np.linalg.solve(design.T @ design + ridge, design.T @ y)
            amounts = np.log(np.maximum(solved[1 : 1 + logs.shape[1]], 1e-3 * level)) + np.array(exponents) * logs.mean(axis=0)
            slopes = solved[1 + logs.shape[1] :] / level
            mixture = [np.log(level) - slopes @ shares.mean(axis=0), *slopes] if self.has_mixture else []
            constant = solved[0] - (level if self.has_mixture else 0.0)
            parameters = np.array([constant, *mixture, *amounts, *exponents])
            found.append((float(((self.values(parameters, x) - y) ** 2).sum()), parameters))
        return [parameters for _, parameters in sorted(found, key=lambda entry: entry[0])[:BEST_STARTS]]

    def values(self, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the law's values for some parameters."""
        shares, logs = x[:, : self.num_shares], x[:, self.num_shares :]
        number, at = logs.shape[1], 1 + (1 + self.num_shares) * bool(self.has_mixture)
        mixture = np.exp(np.clip(parameters[1] + shares @ parameters[2:at], -50, 50)) if self.has_mixture else 0.0
        sizes = np.exp(np.clip(parameters[at : at + number] - parameters[at + number :] * logs, -50, 50)).sum(axis=1)
        return parameters[0] + mixture + sizes

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predicted values."""
        assert self.parameters is not None, "fitted before it is asked"
        return self.values(self.parameters, x)

    def coefficients(self) -> np.ndarray | None:
        """Return c, k and t, then log A and log B, then alpha and beta."""
        return self.parameters

    def names(self, domains: list[str], sizes: tuple[str, ...]) -> list[str]:
        """Return what the coefficients are called."""
        words = [name.removeprefix("size_") for name in sizes]
        mixture = ["k", *domains] if self.has_mixture else []
        return ["c", *mixture, *(f"log factor of {word}" for word in words), *(f"exponent of {word}" for word in words)]


class Farseer(Chinchilla):
    """Nine numbers for parameters N and tokens D, in that order; begun from Chinchilla's law, of which it is a widening."""

    least_sizes = 2

    def starts(self, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        """Return the parameters with which it is Chinchilla's law, about, for several exponents of N."""
        simple = Chinchilla(self.num_shares).fit(x, y)
        assert simple.parameters is not None
        mixture = simple.parameters[1:-4] if self.has_mixture else np.empty(0)
        log_n, (log_a, log_b, alpha, beta) = x[:, self.num_shares], simple.parameters[-4:]
        level = np.log(np.maximum(simple.parameters[0] + np.exp(log_a - alpha * log_n), 1e-3))
        found = []
        for exponent in (-0.3, -0.1, 0.1):
            slope, constant = np.polyfit(np.exp(exponent * log_n), level, 1)
            numbers = [slope, exponent, constant, 0.0, 0.1, log_b, 0.0, 0.1, np.log(max(beta, 1e-2))]
            found.append(np.concatenate([mixture, numbers]))
        return found

    def values(self, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the law's values for some parameters."""
        shares, (log_n, log_d) = x[:, : self.num_shares], x[:, self.num_shares :].T
        mixture = np.exp(np.clip(parameters[0] + shares @ parameters[1:-9], -50, 50)) if self.has_mixture else 0.0
        a3, gamma, b3, a2, beta, b2, a1, alpha, b1 = parameters[-9:]
        rate = np.exp(np.clip(a1 * np.exp(np.clip(alpha * log_n, -50, 50)) + b1, -50, 5))
        tokens = np.exp(np.clip(a2 * np.exp(np.clip(beta * log_n, -50, 50)) + b2 - rate * log_d, -50, 50))
        return np.exp(np.clip(a3 * np.exp(np.clip(gamma * log_n, -50, 50)) + b3, -50, 50)) + tokens + mixture

    def names(self, domains: list[str], sizes: tuple[str, ...]) -> list[str]:
        """Return what the coefficients are called."""
        return [*(["k", *domains] if self.has_mixture else []), "a3", "gamma", "b3", "a2", "beta", "b2", "a1", "alpha", "b1"]


def best_end(values: Callable, starts: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the parameters of least squares that are best over all starts; a touch of ridge, for shares sum to 1."""
    from scipy.optimize import least_squares

    spread = max(float(y.std()), 1e-9)
    ends = []
    for start in starts:

        def residuals(parameters: np.ndarray, start: np.ndarray = start) -> np.ndarray:
            return np.append((values(parameters, x) - y) / spread, TINY_RIDGE * (parameters - start))

        solved = least_squares(residuals, start, x_scale="jac", max_nfev=300, xtol=1e-12, ftol=1e-12, gtol=1e-12)
        ends.append((float(solved.cost), solved.x))
    return min(ends, key=lambda end: end[0])[1]
