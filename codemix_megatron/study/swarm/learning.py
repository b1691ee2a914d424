"""What the runs of a swarm teach: laws over phases and over whole runs, what they say of mixtures to come, and whether they were right."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codemix_megatron.analysis.law_fitting import KINDS, Law, choose_law
from codemix_megatron.analysis.law_runs import table_of_runs
from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.analysis.law_views import Fit, Proposal, Wish, fit_views, propose_mixtures
from codemix_megatron.errors import CodemixError
from codemix_megatron.study.swarm.folder import SwarmFolder, runs_of
from codemix_megatron.study.swarm.rounds import SwarmRun
from codemix_megatron.study.swarm.settings import SwarmSettings
from codemix_megatron.study.swarm.space import Space

__all__ = ["Learned", "compare_with_predictions", "describe_learned", "learn", "out_of_sample", "predict_runs", "table_of_swarm"]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The table of all runs so far, a fit for each objective, and the mixtures to try next; none where no law holds."""

    table: MixtureTable
    fits: dict[str, Fit]
    proposals: list[Proposal]
    notes: list[str] = field(default_factory=list)


def table_of_swarm(folder: SwarmFolder, space: Space, runs: list[SwarmRun]) -> tuple[MixtureTable, list[str]]:
    """Return a row for each run that has trained to its end, over the swarm's phases and domains, in the runs' order."""
    paths = folder.study.read()["variants"]
    of_runs = table_of_runs([folder.study.run(paths[run.name][-1]) for run in runs])
    return space.own_table(of_runs.table), of_runs.notes


def learn(folder: SwarmFolder, state: dict[str, Any], space: Space) -> Learned:
    """Fit every objective over all runs so far, and propose."""
    settings = SwarmSettings.from_plain(state["settings"])
    table, notes = table_of_swarm(folder, space, runs_of(state))
    if unknown := [name for name in settings.objectives if name not in table.metrics]:
        raise CodemixError(f"--objective {unknown[0]!r}: no run has it; measured are {', '.join(table.metrics)}")
    fits = {metric: fit_views(table, metric, KINDS) for metric in settings.objectives}
    notes = list(dict.fromkeys([*notes, *(note for fit in fits.values() for note in fit.notes)]))
    known = []
    for metric, fit in fits.items():
        if fit.law.is_useless:
            notes.append(f"{metric}: no form predicts it better than the mean of the runs; left out")
        else:
            known.append(fit)
    wish = Wish(
        corpus_tokens=space.sizes,
        tokens=None,
        max_epochs=0.0,
        explore=settings.explore,
        maximize=settings.maximize,
        extrapolate=False,
        at_sizes={},
        most=dict(zip(space.domains, map(float, space.bounds), strict=True)),
    )
    return Learned(table=table, fits=fits, proposals=propose_mixtures(known, wish, notes) if known else [], notes=notes)


def views_of(fit: Fit, table: MixtureTable) -> dict[str, tuple[Law, MixtureTable]]:
    """Return the laws of a metric over phases and over whole runs, each with its table."""
    tables = {"phases": table, "totals": table.totals()}
    return {view: (choose_law(tables[view], fit.metric, forms), tables[view]) for view, forms in fit.views.items()}


def predict_runs(learned: Learned, space: Space, runs: list[SwarmRun]) -> dict[str, dict[str, dict[str, float]]]:
    """Return run -> objective -> what the law that is used says (value, low, high), and the value by each view."""
    shares = np.array([np.array(run.shares) * space.weights[:, None] for run in runs])
    whole = {"phases": shares.reshape(len(runs), -1), "totals": shares.sum(axis=1)}
    found: dict[str, dict[str, dict[str, float]]] = {run.name: {} for run in runs}
    for metric, fit in learned.fits.items():
        low, high = fit.law.interval(whole[fit.used])
        used = fit.law.predict(whole[fit.used])
        by_view = {view: law.predict(whole[view]) for view, (law, _) in views_of(fit, learned.table).items()}
        for i, run in enumerate(runs):
            entry = {"predicted": float(used[i]), "low": float(low[i]), "high": float(high[i])}
            found[run.name][metric] = entry | {view: float(values[i]) for view, values in by_view.items()}
    return found


def compare_with_predictions(entry: dict[str, Any], table: MixtureTable) -> list[dict[str, Any]]:
    """Return a row for each run of a round and objective: what was predicted before it was trained, and what was measured."""
    rows = []
    for run in entry["runs"]:
        for metric, said in entry["predicted"].get(run["name"], {}).items():
            measured = float(table.values[table.runs.index(run["name"]), table.metrics.index(metric)])
            is_within = said["low"] <= measured <= said["high"]
            rows.append(
                {"run": run["name"], "purpose": run["purpose"], "objective": metric, **said, "measured": measured, "within": is_within}
            )
    return rows


def out_of_sample(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return objective -> view -> root mean square error of its predictions of mixtures that were trained afterwards.

    A mixture with several seeds counts once, by its mean.
    """
    errors: dict[str, dict[str, float]] = {}
    for metric in dict.fromkeys(row["objective"] for row in rows):
        own = [row for row in rows if row["objective"] == metric]
        for view in ("phases", "totals"):
            if all(view in row for row in own):
                means = [
                    np.mean([row["measured"] - row[view] for row in own if row["purpose"] == purpose])
                    for purpose in dict.fromkeys(row["purpose"] for row in own)
                ]
                errors.setdefault(metric, {})[view] = float(np.sqrt(np.mean(np.square(means))))
    return errors


def describe_learned(learned: Learned, space: Space) -> dict[str, Any]:
    """Return what swarm.json keeps of what was learned."""
    laws = {}
    for metric, fit in learned.fits.items():
        best = {view: min(forms, key=lambda form: form.error.combined).error for view, forms in fit.views.items()}
        laws[metric] = {
            "over": fit.used,
            "law": fit.law.kind,
            "is_useless": fit.law.is_useless,
            "held_out_error": {view: error.root_mean_square for view, error in best.items()},
            "of_the_spread": {view: error.relative for view, error in best.items()},
        }
    return {
        "runs": len(learned.table.runs),
        "laws": laws,
        "proposals": [{"purpose": p.purpose, "shares": p.shares, "ranges": p.ranges} for p in learned.proposals],
        "notes": learned.notes,
    }
