"""The report of a swarm: what it found, how far its predictions held, what is known where."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from codemix_megatron.records.atomic import replace_text, writing
from codemix_megatron.report.blocks import Bullets, Cell, Paragraph, Report, Section, Table
from codemix_megatron.report.markdown import markdown
from codemix_megatron.report.page import page
from codemix_megatron.study.swarm.figure import known_figure
from codemix_megatron.study.swarm.folder import SwarmFolder, runs_of
from codemix_megatron.study.swarm.learning import Learned, predict_runs
from codemix_megatron.study.swarm.rounds import SwarmRun, next_round
from codemix_megatron.study.swarm.settings import SwarmSettings
from codemix_megatron.study.swarm.space import Space

__all__ = ["write_swarm_report"]

MOST_FIGURES = 4


def write_swarm_report(folder: SwarmFolder, state: dict[str, Any], space: Space, learned: Learned) -> Path:
    """Write index.html, index.md and the figures into the swarm's report folder; return index.html's path."""
    report = describe(folder, state, space, learned)
    texts = {"index.md": markdown(report), "index.html": page(report)}
    for figure in report.figures():
        with writing(folder.report / f"{figure.name}.png", "wb") as handle:
            handle.write(figure.png)
    for name, text in texts.items():
        replace_text(folder.report / name, text)
    return folder.report / "index.html"


def describe(folder: SwarmFolder, state: dict[str, Any], space: Space, learned: Learned) -> Report:
    """Return the whole report."""
    settings = SwarmSettings.from_plain(state["settings"])
    number = len(runs_of(state))
    rounds = len(state["rounds"])
    return Report(
        title=folder.path.name,
        eyebrow="swarm",
        lead=f"{number} runs in {rounds} rounds over {', '.join(space.domains)} in {len(space.phases)} phases, for {', '.join(settings.objectives)}.",
        status=state.get("ended") or "under way",
        status_tone="good" if state.get("ended") and learned.proposals else "warning",
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        sections=[
            Section(title="Best mixture", anchor="best", blocks=best_blocks(space, settings, learned)),
            Section(title="What is known where", anchor="known", blocks=known_blocks(space, settings, learned)),
            Section(title="Predicted and measured", anchor="predictions", blocks=prediction_blocks(state)),
            Section(title="Laws", anchor="laws", blocks=law_blocks(learned)),
            Section(title="Noise of seeds", anchor="seeds", blocks=seed_blocks(state, learned)),
            Section(title="What was asked", anchor="asked", blocks=[Bullets(asked_lines(settings, space))]),
        ],
    )


def proposed(space: Space, settings: SwarmSettings, learned: Learned) -> list[SwarmRun]:
    """Return the mixtures proposed last, the best once."""
    runs = next_round(0, space, settings, learned.proposals)
    return [run for i, run in enumerate(runs) if run.purpose not in {other.purpose for other in runs[:i]}]


def best_blocks(space: Space, settings: SwarmSettings, learned: Learned) -> list:
    """Return the mixtures proposed last with what is expected of them."""
    if not learned.proposals:
        return [Paragraph("No law is better than the mean of the runs, so no mixture is proposed.", tone="warning")]
    runs = proposed(space, settings, learned)
    said = predict_runs(learned, space, runs)
    headings = ["mixture", *(f"{phase}: {name}" for phase in space.phases for name in space.domains), *learned.fits]
    ranges = learned.proposals[0].ranges
    rows = []
    for run in runs:
        cells = []
        for i, phase in enumerate(space.phases):
            for k, name in enumerate(space.domains):
                key = f"{phase}/{name}" if f"{phase}/{name}" in ranges else name
                low, high = (
                    ranges.get(key, (0.0, 0.0))
                    if run.purpose == "best" and len(space.phases) * len(space.domains) == len(ranges)
                    else (0.0, 0.0)
                )
                weight = space.weights[i] if "/" in key else 1.0
                below = f"{low / weight:.2f} to {high / weight:.2f}" if high else ""
                cells.append(Cell(f"{run.shares[i][k]:.3f}", below=below))
        values = [Cell(f"{s['predicted']:.4f}", below=f"{s['low']:.4f} to {s['high']:.4f}") for s in said[run.name].values()]
        rows.append([run.purpose, *cells, *values])
    caption = "Proposed after the last round, with the 90 % interval for a run's value. Under the best: shares that cannot be told from it."
    return [Table(headings=headings, rows=rows, caption=caption)]


def known_blocks(space: Space, settings: SwarmSettings, learned: Learned) -> list:
    """Return the figures: one for each domain, of two domains one alone."""
    known = [fit for fit in learned.fits.values() if not fit.law.is_useless]
    if not known:
        return [Paragraph("No law holds, so nothing is drawn.", tone="warning")]
    best = proposed(space, settings, learned)[0].shares
    indices = [1] if len(space.domains) == 2 else range(min(len(space.domains), MOST_FIGURES))
    return [known_figure(index, space.domains, space.phases, known, learned.table, best) for index in indices]


def prediction_blocks(state: dict[str, Any]) -> list:
    """Return what later rounds were predicted to measure, and measured; and the errors of both views on them."""
    blocks: list = []
    for entry in state["rounds"]:
        rows = entry.get("compared") or []
        if not rows:
            continue
        table = [
            [row["run"], row["objective"], f"{row['predicted']:.4f}", f"{row['low']:.4f} to {row['high']:.4f}", f"{row['measured']:.4f}",
             Cell("within" if row["within"] else "outside", tone="good" if row["within"] else "bad")]
            for row in rows
        ]  # fmt: skip
        caption = f"Round {entry['number']}: predictions were written before the runs were trained."
        blocks.append(
            Table(headings=["run", "objective", "predicted", "90 % interval", "measured", ""], rows=table, caption=caption, left=(0, 1, 5))
        )
        blocks.append(Bullets([error_line(entry, metric, errors) for metric, errors in entry["out_of_sample"].items()]))
    return blocks or [Paragraph("No later round has been trained, so no prediction was put to the test.", tone="quiet")]


def error_line(entry: dict[str, Any], metric: str, errors: dict[str, float]) -> str:
    """Say how far both views were off on mixtures they had not seen."""
    said = " and ".join(f"{error:.4f} over {view}" for view, error in errors.items())
    return f"{metric}, round {entry['number']}: root mean square error on its mixtures, none of them seen before, {said}."


def law_blocks(learned: Learned) -> list:
    """Return the held-out error of every form, over phases and over whole runs."""
    rows = []
    for metric, fit in learned.fits.items():
        used = {form.kind for form in fit.law.forms}
        for view, forms in fit.views.items():
            for form in forms:
                error = form.error
                outside = "" if error.outside is None else f"{100 * error.outside:.0f} %"
                word = "used" if view == fit.used and form.kind in used else ""
                rows.append([metric, view, form.kind, f"{error.root_mean_square:.4f}", f"{100 * error.relative:.0f} %", outside, word])
    headings = ["objective", "over", "law", "held-out error", "of the spread", "out of range", ""]
    caption = "Errors on runs a law was not fitted to, all rounds together. All seeds of a mixture are left out at once."
    return [Table(headings=headings, rows=rows, caption=caption, left=(0, 1, 2, 6)), *([Bullets(learned.notes)] if learned.notes else [])]


def seed_blocks(state: dict[str, Any], learned: Learned) -> list:
    """Return mean and deviation over seeds of the mixtures that have several."""
    table, rows = learned.table, []
    for purpose in dict.fromkeys((run.purpose, run.name.partition("-seed-")[0]) for run in runs_of(state) if "-seed-" in run.name):
        indices = [table.runs.index(run.name) for run in runs_of(state) if run.name.partition("-seed-")[0] == purpose[1]]
        cells = [
            Cell(f"{values.mean():.4f}", below=f"± {values.std(ddof=1):.4f} over {len(values)}" if len(values) > 1 else "one seed")
            for metric in learned.fits
            if (values := table.values[indices, table.metrics.index(metric)]).size
        ]
        rows.append([purpose[1], *cells])
    return [Table(headings=["mixture", *learned.fits], rows=rows, caption="Mean, and standard deviation between seeds.")]


def asked_lines(settings: SwarmSettings, space: Space) -> list[str]:
    """Return the settings, in words."""
    low, high = settings.strength
    drawn = (
        f"{settings.runs} runs by D-optimal design"
        if settings.design == "d-optimal"
        else f"{settings.runs} runs drawn (Dirichlet) around the prior ({settings.prior}), strength {low:g} to {high:g}, temperature {settings.temperature:g}"
    )
    shared = f", on {settings.trunks} shared first phases" if settings.trunks else ""
    bounds = ", ".join(f"{name} {bound:.2f}" for name, bound in zip(space.domains, np.round(space.bounds, 2), strict=True))
    prior = "; ".join(
        f"{phase}: {', '.join(f'{name} {share:.2f}' for name, share in zip(space.domains, row, strict=True))}"
        for phase, row in zip(space.phases, space.prior, strict=True)
    )
    own = " -> ".join(", ".join(f"{name} {share:.2f}" for name, share in zip(space.domains, row, strict=True)) for row in space.base)
    return [
        f"base: `{settings.base}` ({own}), seed {space.seed}, {settings.seeds} seeds at the anchors and at the best",
        f"{drawn}{shared}",
        f"prior: {prior}",
        f"largest shares of the run by max_epochs: {bounds}",
        f"ends after {settings.rounds} rounds"
        + (f", or at {settings.most_tokens:,} tokens" if settings.most_tokens else "")
        + (f", or when intervals are narrower than {settings.interval:g}" if settings.interval else ""),
    ]
