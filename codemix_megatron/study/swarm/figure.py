"""What is known where: prediction and its interval over the share of a domain, phase by phase, everything else as in the best mixture."""

import numpy as np

from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.analysis.law_views import Fit
from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.canvas import draw_figure
from codemix_megatron.report.palette import GRID, INK, OTHER, SOFT, look_at

__all__ = ["known_figure", "slice_through"]

POINTS = 101


def slice_through(best: np.ndarray, phase: int, domain: int, shares: np.ndarray) -> np.ndarray:
    """Return mixtures [points, phases, domains] like the best, with other shares of one domain in one phase; the rest keeps its proportions."""
    runs = np.repeat(best[None], len(shares), axis=0)
    others = np.delete(best[phase], domain)
    others = others / others.sum() if others.sum() > 1e-9 else np.full(len(others), 1 / len(others))
    runs[:, phase] = np.insert((1 - shares)[:, None] * others, domain, shares, axis=1)
    return runs


def known_figure(domain: int, domains: tuple[str, ...], phases: tuple[str, ...], fits: list[Fit], table: MixtureTable, best) -> Figure:
    """Draw a row for each objective and a column for each phase; what lies outside of what was tried is shaded."""
    weights = table.shares.reshape(len(table.runs), len(phases), -1).sum(axis=2).mean(axis=0)
    tried = table.shares.reshape(len(table.runs), len(phases), -1) / weights[:, None]
    best = np.asarray(best, dtype=float)
    grid = np.linspace(0, 1, POINTS)

    def draw(canvas):
        rows = canvas.subplots(len(fits), len(phases), sharex=True, sharey="row", squeeze=False)
        for fit, row in zip(fits, rows, strict=True):
            for phase, axes in enumerate(row):
                draw_slice(axes, fit, slice_through(best, phase, domain, grid) * weights[:, None], grid)
                measured = table.values[:, table.metrics.index(fit.metric)]
                axes.plot(tried[:, phase, domain], measured, ".", color=OTHER, markersize=5, zorder=2)
                axes.axvline(best[phase, domain], color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
                for low, high in ((0, tried[:, phase, domain].min()), (tried[:, phase, domain].max(), 1)):
                    axes.axvspan(low, high, color=GRID, alpha=0.6, linewidth=0, zorder=0)
                if fit is fits[0]:
                    axes.set_title(phases[phase], fontsize=10, color=SOFT)
                if fit is fits[-1]:
                    axes.set_xlabel(f"share of {domains[domain]}")
            row[0].set_ylabel(fit.metric.replace(" bits_per_byte", ",\nbits per byte"))

    said = [f"{phase} {100 * best[i, domain]:.0f} %" for i, phase in enumerate(phases)]
    caption = (
        f"Prediction and 90 % interval for one run over the share of {domains[domain]} in a phase, all else as in the best mixture (dashed)."
        " Dots are runs, whatever they have in other phases; shaded is what no run has tried."
    )
    return draw_figure(
        f"share-of-{domains[domain]}", caption, f"Best share of {domains[domain]}: {', '.join(said)}.", draw, 0.85 * len(fits)
    )


def draw_slice(axes, fit: Fit, runs: np.ndarray, grid: np.ndarray) -> None:
    """Draw one law along a slice [points, phases, domains] of shares of the whole run."""
    shares = runs.reshape(len(runs), -1) if fit.used == "phases" else runs.sum(axis=1)
    low, high = fit.law.interval(shares)
    look = look_at(0)
    axes.fill_between(grid, low, high, color=look.colour, alpha=0.18, linewidth=0)
    axes.plot(grid, fit.law.predict(shares), color=look.colour, linewidth=1.6)
