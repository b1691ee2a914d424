"""Figures of a study: the sweep over shares of code, and kinds of code side by side."""

import numpy as np

from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.canvas import draw_figure, name_above
from codemix_megatron.report.palette import INK, look_at
from codemix_megatron.report.run_data import RunData

__all__ = ["quality_figure", "sweep_figure"]

MOST_LINES = 7


def sweep_figure(runs: list[RunData], shares: list[float], measures, paper: dict) -> Figure:
    """Change of every measure over the share of code, relative to the least code; the paper's sweep below it."""
    drawn = [m for m in measures if m.value(runs[0])[0]][:MOST_LINES]

    def draw(canvas):
        top, bottom = canvas.subplots(2, 1, height_ratios=(3, 2))
        for place, measure in enumerate(drawn):
            look, base = look_at(place), measure.value(runs[0])[0]
            points = [(100 * s, *measure.value(run)) for s, run in zip(shares, runs, strict=True) if measure.value(run)[0] is not None]
            x, y, errors = zip(*points, strict=True)
            bars = [200 * (error or 0) / abs(base) for error in errors]
            style = {"marker": look.marker, "markersize": 5, "capsize": 2.5, "label": measure.label, **look.line}
            top.errorbar(x, [100 * (value / base - 1) for value in y], yerr=bars, **style)
        top.set(ylabel="change, %", xlabel="share of code, %")
        top.axhline(0, color=INK, linewidth=0.8)
        sweep = paper["sweep"]
        for place, (key, name) in enumerate({"reason": "reasoning", "know": "knowledge"}.items()):
            look = look_at(place)
            values = [100 * (value / sweep[key][0] - 1) for value in sweep[key]]
            bottom.plot(sweep["code_percent"], values, marker=look.marker, label=f"paper, {name}", **look.line)
        bottom.axhline(0, color=INK, linewidth=0.8)
        bottom.set(ylabel="change, %", xlabel="share of code, %")
        bottom.legend(frameon=False, fontsize=9)
        name_above(canvas, *top.get_legend_handles_labels())

    caption = (
        "Change from the run with the least code, ±2 standard errors of each value; bits per byte are better when lower."
        " Below, the paper's reasoning and knowledge over its own sweep."
    )
    return draw_figure("sweep", caption, "Change of each measure over the share of code.", draw, 1.6)


def quality_figure(runs: list[RunData], labels: list[str], measures, paper: dict) -> Figure:
    """Bars of every measure for runs on different code, and the paper's bars."""
    drawn = [m for m in measures if any(m.value(run)[0] is not None for run in runs)][:MOST_LINES]

    def draw(canvas):
        ours, theirs = canvas.subplots(1, 2, width_ratios=(max(2, len(drawn)), 2))
        width = 0.8 / len(runs)
        for place, (run, label) in enumerate(zip(runs, labels, strict=True)):
            look, found = look_at(place), [measure.value(run) for measure in drawn]
            at = np.arange(len(drawn)) - 0.4 + (place + 0.5) * width
            values = [value if value is not None else 0 for value, _ in found]
            errors = [2 * (error or 0) for _, error in found]
            ours.bar(at, values, width, yerr=errors, color=look.colour, hatch=look.hatch, edgecolor="white", label=label, capsize=2)
        ours.set_xticks(np.arange(len(drawn)), [measure.label.replace(", ", "\n").replace(" (", "\n(") for measure in drawn], fontsize=8)
        rows = [row for row in paper["quality"] if "→" not in row["run"]]
        width = 0.8 / len(rows)
        for place, row in enumerate(rows):
            look = look_at(place)
            at = np.arange(2) - 0.4 + (place + 0.5) * width
            theirs.bar(at, [row["reason"], row["code"]], width, color=look.colour, hatch=look.hatch, edgecolor="white", label=row["run"])
        theirs.set_xticks([0, 1], ["reasoning", "code"])
        theirs.set(title="the paper, %")
        theirs.legend(frameon=False, fontsize=7)
        for axes in (ours, theirs):
            axes.grid(visible=False, axis="x")
        name_above(canvas, *ours.get_legend_handles_labels())

    caption = "Runs on code alone that differ in what the code is, ±2 standard errors; at the right the paper's (Figure 5)."
    return draw_figure("quality", caption, "Bars of each measure per kind of code.", draw, 1.1)
