"""Laws from mixtures to losses: log-linear (Data Mixing Laws, arXiv 2403.16952; Olmix's log_linear) and gradient boosting (RegMix).

log-linear   loss = c + exp(k + t . shares [+ s . log(sizes)]), convex: few runs suffice, and it may be extrapolated
boosting     trees over shares [and log(sizes)]: any shape, needs a hundred runs, knows nothing outside them

Every law comes with the error on runs it has not seen: cross-validated, never that of the fit.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.errors import CorpusError

__all__ = ["KINDS", "HeldOutError", "Law", "fit_law", "held_out_error"]

KINDS = ("log_linear", "boosting")
FOLDS = 5
SEED = 20240820
FLOORS = 12  # values of c tried


@dataclass(frozen=True, kw_only=True)
class Law:
    """One metric as a function of shares [points, domains] and sizes [points, sizes]."""

    kind: str
    metric: str
    domains: list[str]
    sizes: tuple[str, ...]
    predictor: Any = field(repr=False)

    def predict(self, shares: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
        """Return predicted values [points]."""
        return self.predictor.predict(features(np.atleast_2d(shares), sizes))


@dataclass(frozen=True, kw_only=True)
class HeldOutError:
    """How a law does on runs it was not fitted to, over `runs` of them in `folds` parts."""

    root_mean_square: float
    relative: float  # to the standard deviation of the metric over the runs: 1 is no better than their mean
    rank_correlation: float  # Spearman's: whether better mixtures are told from worse ones
    runs: int
    folds: int


class LogLinear:
    """c + exp(k + t . x), fitted by least squares on log(y - c) for the start and on y for the end."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "LogLinear":
        """Fit; the best of several floors c is taken on from there."""
        from scipy.optimize import least_squares

        spread = max(float(y.max() - y.min()), 1e-9)
        best: tuple[float, float, np.ndarray] | None = None
        for below in np.geomspace(0.02, 20, FLOORS):
            floor = float(y.min()) - below * spread
            design = np.column_stack([np.ones(len(x)), x])
            # A touch of ridge: shares sum to 1, so the constant is among their combinations.
            start = np.linalg.solve(design.T @ design + 1e-6 * len(x) * np.eye(design.shape[1]), design.T @ np.log(y - floor))
            error = float(((floor + np.exp(design @ start) - y) ** 2).sum())
            if best is None or error < best[0]:
                best = error, floor, start
        assert best is not None
        _, floor, start = best

        def residuals(parameters):
            values = parameters[0] + np.exp(np.clip(parameters[1] + x @ parameters[2:], -50, 50)) - y
            return np.append(values, 1e-4 * spread * parameters[2:])

        self.parameters = least_squares(residuals, np.concatenate([[floor], start]), max_nfev=400).x
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predicted values."""
        return self.parameters[0] + np.exp(np.clip(self.parameters[1] + x @ self.parameters[2:], -50, 50))


def boosting():
    """Return gradient-boosted trees that stop before they learn the noise."""
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(
        n_estimators=400, learning_rate=0.06, max_depth=4, subsample=0.7, min_samples_leaf=3, validation_fraction=0.15,
        n_iter_no_change=30, random_state=SEED,
    )  # fmt: skip


def features(shares: np.ndarray, sizes: np.ndarray | None) -> np.ndarray:
    """Return what a law sees: shares, and the logarithms of sizes."""
    return shares if sizes is None or not sizes.shape[1] else np.hstack([shares, np.log(sizes)])


def fit_law(table: MixtureTable, metric: str, kind: str = "log_linear") -> Law:
    """Fit one metric over all runs that have it; raises CorpusError for too few."""
    table, values = known_rows(table, metric)
    predictor = (LogLinear() if kind == "log_linear" else boosting()).fit(features(table.shares, table.size_values), values)
    return Law(kind=kind, metric=metric, domains=table.domains, sizes=table.sizes, predictor=predictor)


def known_rows(table: MixtureTable, metric: str) -> tuple[MixtureTable, np.ndarray]:
    """Return the runs in which a metric was measured, and its values."""
    if metric not in table.metrics:
        raise CorpusError(f"no metric {metric!r}; there are {', '.join(table.metrics)}")
    values = table.values[:, table.metrics.index(metric)]
    known = np.flatnonzero(np.isfinite(values))
    least = len(table.domains) + len(table.sizes) + 2
    if len(known) < least:
        raise CorpusError(
            f"metric {metric}: {len(known)} runs have it, at least {least} are needed for {len(table.domains)} domains; train more mixtures"
        )
    return table.rows(known), values[known]


def held_out_error(table: MixtureTable, metric: str, kind: str = "log_linear", folds: int = FOLDS) -> HeldOutError:
    """Fit on all parts but one and predict that one, for each part; return the error over all of them."""
    table, values = known_rows(table, metric)
    order = np.random.default_rng(SEED).permutation(len(values))
    folds = min(folds, len(values))
    predicted = np.empty(len(values))
    for fold in range(folds):
        test = order[fold::folds]
        train = np.setdiff1d(order, test)
        predictor = (LogLinear() if kind == "log_linear" else boosting()).fit(part(table, train), values[train])
        predicted[test] = predictor.predict(part(table, test))
    error = float(np.sqrt(np.mean((predicted - values) ** 2)))
    return HeldOutError(
        root_mean_square=error,
        relative=error / max(float(values.std()), 1e-12),
        rank_correlation=rank_correlation(predicted, values),
        runs=len(values),
        folds=folds,
    )


def rank_correlation(predicted: np.ndarray, values: np.ndarray) -> float:
    """Return Spearman's correlation; 0 where one side is all alike and there is nothing to order."""
    from scipy.stats import spearmanr

    return 0.0 if np.ptp(predicted) == 0 or np.ptp(values) == 0 else float(spearmanr(predicted, values).statistic)


def part(table: MixtureTable, places: np.ndarray) -> np.ndarray:
    """Return the features of some rows."""
    return features(table.shares[places], None if table.size_values is None else table.size_values[places])
