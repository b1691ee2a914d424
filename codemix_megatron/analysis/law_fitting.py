"""Laws fitted to the runs of a table, the error of each on runs it has not seen, the choice among them, and prediction intervals.

The error is taken twice: within what was tried (folds of runs, all runs of one mixture in the same fold) and out of it (the mixtures
farthest from their mean left out, then the largest size). Laws whose errors cannot be distinguished are averaged. Intervals are of the
errors on runs not seen (law_intervals.py).
"""

from dataclasses import dataclass, field, replace

import numpy as np

from codemix_megatron.analysis.law_form import Form
from codemix_megatron.analysis.law_forms import EXTRAPOLATING, FORMS, USUAL, make_form
from codemix_megatron.analysis.law_intervals import HeldOutSpread
from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.errors import CorpusError

__all__ = ["KINDS", "FittedForm", "HeldOutError", "Law", "choose_law", "fit_forms", "known_rows"]

KINDS = USUAL
FOLDS = 10
OUTER_SHARE = 0.2  # of the runs, those farthest from the mean mixture, left out at once
LEAST_OUTER = 3
SEED = 20240820
COVERAGE = 0.9
DOUBT = 1.645  # standard errors


@dataclass(frozen=True, kw_only=True)
class HeldOutError:
    """How a law does on runs it was not fitted to; relative: to the standard deviation over the runs, 1 is no better than their mean."""

    root_mean_square: float
    relative: float
    rank_correlation: float  # Spearman's: whether better mixtures are told from worse ones
    outside: float | None  # relative error on the mixtures farthest out and on the largest size; None for too few runs
    runs: int
    folds: int

    @property
    def combined(self) -> float:
        """Within and out of range, the same weight for both."""
        return self.relative if self.outside is None else float(np.sqrt((self.relative**2 + self.outside**2) / 2))


@dataclass(frozen=True, kw_only=True)
class FittedForm:
    """One form fitted to all runs, its copies that each left a fold out, and its error on what those left out."""

    kind: str
    whole: Form = field(repr=False)
    folds: list[Form] = field(repr=False)
    fold_of: np.ndarray = field(repr=False)  # [runs]
    predicted: np.ndarray = field(repr=False)  # [runs], each by the copy that had not seen it
    error: HeldOutError

    def coefficient_errors(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return coefficients and their standard errors (delete-a-group jackknife); None where the form has none to read."""
        values = self.whole.coefficients()
        if values is None:
            return None
        others = np.array([copy.coefficients() for copy in self.folds])
        count = len(others)
        return values, np.sqrt((count - 1) / count * ((others - others.mean(axis=0)) ** 2).sum(axis=0))


@dataclass(frozen=True, kw_only=True)
class Law:
    """One metric as a function of shares [points, domains] and sizes [points, sizes]: the mean of the forms that were chosen."""

    metric: str
    domains: list[str]
    sizes: tuple[str, ...]
    size_range: np.ndarray | None = field(repr=False)  # [2, sizes]
    forms: list[FittedForm] = field(repr=False)
    values: np.ndarray = field(repr=False)  # [runs]
    shares: np.ndarray = field(repr=False)  # [runs, domains]
    size_values: np.ndarray | None = field(repr=False)

    @property
    def kind(self) -> str:
        """The names of its forms."""
        return " + ".join(form.kind for form in self.forms)

    @property
    def is_useless(self) -> bool:
        """Say whether no form of it predicts runs it has not seen better than the mean of the others does."""
        return all(form.error.relative >= 1 for form in self.forms)

    @property
    def is_doubtful(self) -> bool:
        """Say whether its errors cannot be told from those of the mean of the other runs: squared, paired, one-sided at 5 %."""
        fold_of = self.forms[0].fold_of
        means = np.array([self.values[fold_of != fold].mean() for fold in fold_of])
        predicted = np.mean([form.predicted for form in self.forms], axis=0)
        gain = (means - self.values) ** 2 - (predicted - self.values) ** 2
        return bool(gain.mean() < DOUBT * gain.std(ddof=1) / np.sqrt(len(gain)))

    def at_sizes(self, sizes: np.ndarray | None) -> "Law":
        """Return the law as it may be asked at sizes [sizes]: beyond those of the runs only forms that extrapolate are left.

        Raises CorpusError where none is.
        """
        if sizes is None or self.size_range is None:
            return self
        if np.all(sizes >= self.size_range[0] * 0.999) and np.all(sizes <= self.size_range[1] * 1.001):
            return self
        left = [form for form in self.forms if form.kind in EXTRAPOLATING]
        if not left:
            raise CorpusError(
                f"metric {self.metric}: {self.kind} knows nothing of sizes beyond those of the runs"
                f" ({', '.join(f'{low:g} to {high:g}' for low, high in self.size_range.T)}); fit with --kind log_linear or chinchilla"
            )
        return replace(self, forms=left)

    def predict(self, shares: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
        """Return predicted values [points]."""
        x = features(np.atleast_2d(shares), sizes)
        return np.mean([form.whole.predict(x) for form in self.forms], axis=0)

    def interval(self, shares: np.ndarray, sizes: np.ndarray | None = None, coverage: float = COVERAGE) -> tuple[np.ndarray, np.ndarray]:
        """Return (low, high) [points] between which a new run's value lies with this probability."""
        errors = np.mean([form.predicted for form in self.forms], axis=0) - self.values
        spread = HeldOutSpread(errors, coordinates(self.shares, self.size_values))
        middle, half = self.predict(shares, sizes), spread.half_width(coordinates(np.atleast_2d(shares), sizes), coverage)
        return middle - half, middle + half


def coordinates(shares: np.ndarray, sizes: np.ndarray | None) -> np.ndarray:
    """Return where points lie for distances."""
    return features(np.sqrt(shares), sizes)


def features(shares: np.ndarray, sizes: np.ndarray | None) -> np.ndarray:
    """Return what a law sees: shares, and the logarithms of sizes."""
    return shares if sizes is None or not sizes.shape[1] else np.hstack([shares, np.log(sizes)])


def known_rows(table: MixtureTable, metric: str) -> tuple[MixtureTable, np.ndarray]:
    """Return the runs in which a metric was measured, and its values; raises CorpusError for too few."""
    if metric not in table.metrics:
        raise CorpusError(f"no metric {metric!r}; there are {', '.join(table.metrics)}")
    values = table.values[:, table.metrics.index(metric)]
    known = np.flatnonzero(np.isfinite(values))
    least = table.degrees_of_freedom + len(table.sizes) + 3
    if len(known) < least:
        raise CorpusError(
            f"metric {metric}: {len(known)} runs have it, at least {least} are needed for {table.described}; train more mixtures"
        )
    return table.rows(known), values[known]


def fit_forms(table: MixtureTable, metric: str, kinds: tuple[str, ...] = KINDS) -> list[FittedForm]:
    """Fit forms to one metric over all runs that have it, with their errors on runs not seen; the best first.

    None that is no better than the mean stands before one that is, whatever its error out of range.
    """
    table, values = known_rows(table, metric)
    x, fold_of = features(table.shares, table.size_values), folds_of(table)
    outer = outer_runs(table)
    kinds = possible_kinds(table, kinds, len(values))
    fitted = [fit_form(kind, len(table.domains), x, values, fold_of, outer) for kind in kinds]
    return sorted(fitted, key=lambda form: (form.error.relative >= 1, form.error.combined))


def possible_kinds(table: MixtureTable, kinds: tuple[str, ...], runs: int) -> tuple[str, ...]:
    """Return the forms that these runs allow; raises CorpusError where none of those asked for is left."""
    needs = {kind: FORMS[kind].least_sizes for kind in kinds}
    least = table.degrees_of_freedom + 3 * len(table.sizes) + 4  # a factor and an exponent for each size, beside the mixture
    left = tuple(kind for kind, sizes in needs.items() if not sizes or (len(table.sizes) >= sizes and runs >= least))
    if not left:
        raise CorpusError(
            f"{' and '.join(kinds)}: needs runs that differ in {' and in '.join(('parameters', 'tokens')[: max(needs.values())])}, at least"
            f" {least} of them; {runs} runs differ in {', '.join(table.sizes) or 'neither'}"
        )
    return left


def fit_form(kind: str, num_shares: int, x: np.ndarray, values: np.ndarray, fold_of: np.ndarray, outer: list[np.ndarray]) -> FittedForm:
    """Fit one form to all runs, then without each fold and without what lies farthest out."""
    whole = make_form(kind, num_shares).fit(x, values)
    predicted, folds = np.empty(len(values)), []
    for fold in range(int(fold_of.max()) + 1):
        test = fold_of == fold
        folds.append(whole.refit(x[~test], values[~test]))
        predicted[test] = folds[-1].predict(x[test])
    spread = max(float(values.std()), 1e-12)
    error = float(np.sqrt(np.mean((predicted - values) ** 2)))
    outside = [mean_square_outside(whole, x, values, left_out) for left_out in outer]
    return FittedForm(
        kind=kind,
        whole=whole,
        folds=folds,
        fold_of=fold_of,
        predicted=predicted,
        error=HeldOutError(
            root_mean_square=error,
            relative=error / spread,
            rank_correlation=rank_correlation(predicted, values),
            outside=float(np.sqrt(np.mean(outside))) / spread if outside else None,
            runs=len(values),
            folds=len(folds),
        ),
    )


def mean_square_outside(whole: Form, x: np.ndarray, values: np.ndarray, left_out: np.ndarray) -> float:
    """Return the mean squared error on runs of which nothing like them was seen."""
    return float(np.mean((whole.refit(x[~left_out], values[~left_out]).predict(x[left_out]) - values[left_out]) ** 2))


def folds_of(table: MixtureTable) -> np.ndarray:
    """Return the fold of each run. Runs of one mixture and size (seeds) are in one, and so are those that go on from one trunk.

    None is then predicted by its twin, nor by one that shares the noise of its first phases.
    """
    keys = np.round(features(table.shares, table.size_values), 4)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = joined_by_trunks(group.reshape(-1), table.trunks)
    count = int(group.max()) + 1
    order = np.random.default_rng(SEED).permutation(count)
    fold = np.empty(count, dtype=np.int64)
    fold[order] = np.arange(count) % min(FOLDS, count)
    return fold[group]


def joined_by_trunks(group: np.ndarray, trunks: tuple[str, ...]) -> np.ndarray:
    """Return groups of runs, those joined that a trunk connects."""
    from scipy.sparse.csgraph import connected_components

    if not any(trunks):
        return group
    names = np.array(trunks)
    joined = (group[:, None] == group) | ((names[:, None] == names) & (names != ""))
    return connected_components(joined, directed=False)[1]


def outer_runs(table: MixtureTable) -> list[np.ndarray]:
    """Return masks of runs to predict from all others: the mixtures farthest from the mean one, and the largest of each size."""
    masks = []
    distance = ((table.shares - table.shares.mean(axis=0)) ** 2).sum(axis=1)
    count = int(len(distance) * OUTER_SHARE)
    least = table.degrees_of_freedom + len(table.sizes) + 3
    if count >= LEAST_OUTER and len(distance) - count >= least:
        mask = np.zeros(len(distance), dtype=bool)
        mask[np.argsort(-distance, kind="stable")[:count]] = True
        masks.append(mask)
    for column in () if table.size_values is None else table.size_values.T:
        mask = column == column.max()
        if len(set(column)) > 2 and (~mask).sum() >= least:  # two sizes: without one, nothing is known of size
            masks.append(mask)
    return masks


def choose_law(table: MixtureTable, metric: str, fitted: list[FittedForm]) -> Law:
    """Return the law of the best form, averaged with those that cannot be told from it."""
    table, values = known_rows(table, metric)
    best, *others = fitted
    chosen = [best]
    for other in others:
        worse = (other.predicted - values) ** 2 - (best.predicted - values) ** 2
        error = float(worse.std(ddof=1) / np.sqrt(len(worse))) if len(worse) > 1 else 0.0
        is_close_outside = best.error.outside is None or (other.error.outside or 0.0) <= 1.2 * best.error.outside
        if float(worse.mean()) <= error and is_close_outside and other.error.relative < 1:
            chosen.append(other)
    size_range = None if table.size_values is None else np.array([table.size_values.min(axis=0), table.size_values.max(axis=0)])
    return Law(
        metric=metric, domains=table.domains, sizes=table.sizes, size_range=size_range, forms=chosen, values=values, shares=table.shares,
        size_values=table.size_values,
    )  # fmt: skip


def rank_correlation(predicted: np.ndarray, values: np.ndarray) -> float:
    """Return Spearman's correlation; 0 where one side is all alike and there is nothing to order."""
    from scipy.stats import spearmanr

    return 0.0 if np.ptp(predicted) == 0 or np.ptp(values) == 0 else float(spearmanr(predicted, values).statistic)
