"""Laws over each phase's shares beside laws over whole runs, and mixtures proposed from whichever holds."""

from dataclasses import dataclass, field, replace

import numpy as np

from codemix_megatron.analysis.law_fitting import FittedForm, Law, choose_law, fit_forms
from codemix_megatron.analysis.law_proposals import (
    Found,
    draw_around,
    draw_around_phases,
    is_within,
    largest_shares,
    propose,
    search,
)
from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.errors import CodemixError, CorpusError

__all__ = ["Fit", "Proposal", "Wish", "fit_views", "propose_mixtures"]

SAME_SHARES = 0.02  # runs whose shares differ by less in sum are alike
NEAR_EDGE = 0.05  # of the width that was tried


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One metric: the law that is used, its table, and every form that was fitted, by view (phases, totals)."""

    metric: str
    law: Law
    table: MixtureTable
    views: dict[str, list[FittedForm]]
    used: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What mixtures are proposed for."""

    corpus_tokens: dict[str, int]
    tokens: int | None
    max_epochs: float
    explore: int
    maximize: bool
    extrapolate: bool
    at_sizes: dict[str, int]
    most: dict[str, float] = field(default_factory=dict)  # largest share of a domain, where it is not to be computed from epochs


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A mixture, what it is for, and what the laws expect of it.

    `predicted`, `low` and `high` (of a 90 % interval for a run's value) are the metric's with one objective, else None and the mean of
    several in units of their spreads. `ranges` (of the best): shares among mixtures that cannot be told from it.
    """

    purpose: str
    phases: tuple[str, ...]
    shares: dict[str, float]  # of the whole run; PHASE/NAME where there are phases
    predicted: float
    low: float | None
    high: float | None
    ranges: dict[str, tuple[float, float]]
    is_outside: bool  # of the hull of what was tried
    most_epochs: float | None


def fit_views(table: MixtureTable, metric: str, kinds: tuple[str, ...], over: str = "auto") -> Fit:
    """Fit a metric over phases, where runs have several, and over whole runs; keep the better view.

    Raises CorpusError where whole runs are asked to stand for runs that share totals and differ in phases.
    """
    if not table.phases or over == "totals":
        totals = table.totals()
        fitted = fit_forms(totals, metric, kinds)
        law = choose_law(totals, metric, fitted)
        return Fit(metric=metric, law=law, table=totals, views={"totals": fitted}, used="totals", notes=doubts(law))
    views, notes = {}, []
    try:
        views["phases"] = fit_forms(table, metric, kinds)
    except CorpusError as fault:
        if over == "phases" or has_same_totals(table):
            raise CorpusError(
                f"{fault}; some runs share their totals and differ in phases: --over totals takes them for the same"
            ) from None
        notes.append(f"{fault}: fitted over whole runs instead")
    try:
        views["totals"] = fit_forms(table.totals(), metric, kinds)
    except CorpusError:
        if not views:
            raise
    is_over_phases = "phases" in views and (
        over == "phases" or "totals" not in views or is_no_worse(views["phases"][0], views["totals"][0])
    )
    used = "phases" if is_over_phases else "totals"
    if used == "totals" and has_same_totals(table):
        notes.append(
            f"{metric}: over whole runs, though some share totals and differ in phases: their order made no difference that was found"
        )
    chosen = table if is_over_phases else table.totals()
    law = choose_law(chosen, metric, views[used])
    return Fit(metric=metric, law=law, table=chosen, views=views, used=used, notes=[*notes, *doubts(law)])


def doubts(law: Law) -> list[str]:
    """Return what has to be said of a law that is better than the mean, and by no more than chance may be: of noise alone one in four is."""
    if law.is_useless or not law.is_doubtful:
        return []
    return [f"{law.metric}: its law cannot be told from the mean of the runs, so what it proposes may be noise; train more mixtures"]


def is_no_worse(one: FittedForm, other: FittedForm) -> bool:
    """Say whether one form errs no more than another; out of range too only where both were asked there, which takes more runs over phases."""
    if None in (one.error.outside, other.error.outside):
        return one.error.relative <= other.error.relative
    return one.error.combined <= other.error.combined


def has_same_totals(table: MixtureTable) -> bool:
    """Say whether two runs read the same in all and not the same in each phase."""
    totals = table.totals().shares
    alike = np.abs(totals[:, None] - totals).sum(axis=-1) < SAME_SHARES
    differ = np.abs(table.shares[:, None] - table.shares).sum(axis=-1) >= SAME_SHARES
    return bool((alike & differ).any())


def propose_mixtures(fits: list[Fit], wish: Wish, notes: list[str]) -> list[Proposal]:
    """Return mixtures to try next; `notes` are added to. All objectives are seen over whole runs unless all are over phases."""
    fits = same_view(fits)
    table = measured_runs(fits)
    laws = [fit.law for fit in fits]
    size = asked_size(table, wish.at_sizes)
    laws = [law.at_sizes(size) for law in laws]
    spreads = [float(law.values.std()) or 1.0 for law in laws] if len(laws) > 1 else [1.0]
    sign = -1 if wish.maximize else 1

    def objective(shares: np.ndarray) -> np.ndarray:
        return sign * predicted(shares)

    def predicted(shares: np.ndarray) -> np.ndarray:
        at = None if size is None else np.tile(size, (len(shares), 1))
        return np.mean([law.predict(shares, at) / spread for law, spread in zip(laws, spreads, strict=True)], axis=0)

    error = float(np.mean([law.forms[0].error.root_mean_square / spread for law, spread in zip(laws, spreads, strict=True)]))
    names = table.totals().domains
    bounds = largest_shares(names, wish.corpus_tokens, wish.tokens, wish.max_epochs)
    bounds = np.minimum(bounds, [wish.most.get(name, 1.0) for name in names])
    found = look_for(table, objective, bounds, wish, error)
    chosen = propose(found, controls_of(table, wish.corpus_tokens, bounds), wish.explore)
    note_edges(table, found, wish, notes)
    shares = np.array(list(chosen.values()))
    values = predicted(shares)
    low, high = laws[0].interval(shares, None if size is None else np.tile(size, (len(shares), 1))) if len(laws) == 1 else (None, None)
    return [
        Proposal(
            purpose=purpose,
            phases=table.phases,
            shares=dict(zip(table.domains, map(float, row), strict=True)),
            predicted=float(values[i]),
            low=None if low is None else float(low[i]),
            high=None if high is None else float(high[i]),
            ranges=ranges_of(table, found) if purpose == "best" else {},
            is_outside=not is_within(row, table.shares),
            most_epochs=most_epochs(table, row, wish),
        )
        for i, (purpose, row) in enumerate(chosen.items())
    ]


def same_view(fits: list[Fit]) -> list[Fit]:
    """Return the fits with their tables alike: over phases where all are, else over whole runs."""
    if len({fit.used for fit in fits}) == 1:
        return fits
    changed = []
    for fit in fits:
        if fit.used == "phases":
            totals = fit.table.totals()
            if "totals" not in fit.views:
                raise CorpusError(
                    f"{fit.metric} has a law over phases only, other objectives over whole runs only; propose them one by one"
                )
            law = choose_law(totals, fit.metric, fit.views["totals"])
            fit = replace(fit, law=law, table=totals, used="totals")
        changed.append(fit)
    return changed


def measured_runs(fits: list[Fit]) -> MixtureTable:
    """Return the runs that have all objectives: what one that lacks them has tried is not known to a law."""
    table = fits[0].table
    values = table.values[:, [table.metrics.index(fit.metric) for fit in fits]]
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(known):
        raise CorpusError(f"no run has all of {', '.join(fit.metric for fit in fits)}; propose them one by one")
    return table.rows(known)


def asked_size(table: MixtureTable, at_sizes: dict[str, int]) -> np.ndarray | None:
    """Return the sizes to predict at: those asked for, else the largest of the runs; raises CodemixError for one no run differs in."""
    if unknown := [name for name in at_sizes if name not in table.sizes]:
        raise CodemixError(f"--at-{unknown[0].removeprefix('size_')}: all runs have the same, so nothing is known of others")
    if table.size_values is None:
        return None
    largest = table.size_values.max(axis=0)
    return np.array([at_sizes.get(name, value) for name, value in zip(table.sizes, largest, strict=True)], dtype=float)


def look_for(table: MixtureTable, objective, bounds: np.ndarray, wish: Wish, error: float) -> Found:
    """Return mixtures within those tried, or around them with `extrapolate`, that keep the bounds."""
    number = max(1, len(table.phases))

    def keeps(shares: np.ndarray) -> np.ndarray:
        return (shares.reshape(len(shares), number, -1).sum(axis=1) <= bounds + 1e-9).all(axis=1)

    if not wish.extrapolate:
        return search(table.shares, objective, keeps, error)
    prior = table.shares.mean(axis=0)
    drawn = draw_around_phases(prior, number) if table.phases else draw_around(prior_of(table, wish.corpus_tokens), bounds)
    drawn = drawn[keeps(drawn)]
    if not len(drawn):
        raise CorpusError("no mixture keeps the epoch bound; plan fewer tokens or allow more epochs")
    return Found(drawn=drawn, values=objective(drawn), error=error, objective=objective)


def prior_of(table: MixtureTable, corpus_tokens: dict[str, int]) -> np.ndarray:
    """Return shares in proportion to size where sizes are known, else the mean of the runs."""
    if not all(name in corpus_tokens for name in table.domains):
        return table.shares.mean(axis=0)
    sizes = np.array([corpus_tokens[name] for name in table.domains], dtype=float)
    return sizes / sizes.sum()


def controls_of(table: MixtureTable, corpus_tokens: dict[str, int], bounds: np.ndarray) -> dict[str, np.ndarray]:
    """Return controls named for what they are."""
    names = table.totals().domains
    if all(name in corpus_tokens for name in names):
        sizes = np.array([corpus_tokens[name] for name in names], dtype=float)
        weights = table.shares.mean(axis=0).reshape(max(1, len(table.phases)), -1).sum(axis=1)
        return {"control: in proportion to size": np.concatenate([sizes / sizes.sum() * weight for weight in weights])}
    return {"control: mean of the runs": table.shares.mean(axis=0)}


def note_edges(table: MixtureTable, found: Found, wish: Wish, notes: list[str]) -> None:
    """Note domains whose best share is the largest or smallest that was tried: the optimum may lie beyond."""
    if wish.extrapolate:
        return
    best = found.drawn[int(np.argmin(found.values))]
    number = max(1, len(table.phases))
    weights = np.repeat(table.shares.reshape(len(table.shares), number, -1).sum(axis=2).max(axis=0), len(table.domains) // number)
    low, high = table.shares.min(axis=0), table.shares.max(axis=0)
    for name, share, least, most, weight in zip(table.domains, best, low, high, weights, strict=True):
        edge = NEAR_EDGE * (most - least)
        if most > least and share >= most - edge and most < weight - 1e-6:
            notes.append(f"the best is at the largest share of {name} that was tried ({most:.2f}); more may be better: try it")
        elif share <= least + edge and 1e-6 < least < most and len(table.domains) > 2 * number:  # of two, the other one has its largest
            notes.append(f"the best is at the smallest share of {name} that was tried ({least:.2f}); less may be better: try it")


def ranges_of(table: MixtureTable, found: Found) -> dict[str, tuple[float, float]]:
    """Return the least and the largest share of each domain among mixtures that cannot be told from the best."""
    good = found.good
    return {name: (float(low), float(high)) for name, low, high in zip(table.domains, good.min(axis=0), good.max(axis=0), strict=True)}


def most_epochs(table: MixtureTable, shares: np.ndarray, wish: Wish) -> float | None:
    """Return how often a run of the tokens planned for reads its scarcest corpus."""
    if not wish.tokens:
        return None
    totals = shares.reshape(max(1, len(table.phases)), -1).sum(axis=0)
    return max(float(s) * wish.tokens / wish.corpus_tokens[n] for n, s in zip(table.totals().domains, totals, strict=True))
