"""Figures of several runs over each other."""

import numpy as np

from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.canvas import draw_figure, label_ends, name_above, token_axis
from codemix_megatron.report.held_out import series
from codemix_megatron.report.palette import INK, look_at
from codemix_megatron.report.run_data import RunData

__all__ = ["compare_bits_figure", "compare_tasks_figure"]


def compare_bits_figure(runs: list[RunData], labels: list[str], source: str) -> Figure:
    """Held-out bits per byte of one source over all runs."""

    def draw(canvas):
        axes, ends = canvas.subplots(), []
        for place, (run, label) in enumerate(zip(runs, labels, strict=True)):
            tokens, values = series(run, source)
            if values:
                look, every = look_at(place), max(1, len(values) // 25)
                axes.plot(tokens, values, marker=look.marker, markevery=every, markersize=4, label=label, clip_on=False, **look.line)
                ends.append((label, tokens[-1], values[-1], look.colour))
        axes.set(ylabel=f"bits per byte, {source}")
        token_axis(axes, max(run.tokens for run in runs))
        label_ends(axes, ends)

    name = "held-out-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in source)
    return draw_figure(
        name, f"Held-out bits per byte of {source} in every run; lower is better.", f"Bits per byte of {source} per run.", draw
    )


def compare_tasks_figure(runs: list[RunData], labels: list[str], names: list[tuple[str, str]]) -> Figure:
    """Scores of the named (task, metric) in every run, with two standard errors and the level of guessing."""
    found = [{(t.task, t.metric): t for t in run.scores[-1].tasks} if run.scores else {} for run in runs]
    lane = 0.7 / len(runs)

    def draw(canvas):
        axes = canvas.subplots()
        for place, (tasks, label) in enumerate(zip(found, labels, strict=True)):
            here = [(i, tasks[key]) for i, key in enumerate(names) if key in tasks]
            if here:
                look = look_at(place)
                heights = [-i + (len(runs) - 1) / 2 * lane - place * lane for i, _ in here]
                errors = [2 * (task.standard_error or 0) for _, task in here]
                style = {"fmt": look.marker, "color": look.colour, "markersize": 5, "linewidth": 1.4, "capsize": 2.5}
                axes.errorbar([task.value for _, task in here], heights, xerr=errors, label=label, **style)
        for i, key in enumerate(names):
            chance = next((tasks[key].chance for tasks in found if key in tasks), None)
            if chance is not None:
                axes.plot([chance] * 2, [-i - 0.45, -i + 0.45], color=INK, linewidth=2, linestyle=":", label="" if i else "guessing")
        axes.set(yticks=-np.arange(len(names)), yticklabels=[f"{task}\n{metric}" for task, metric in names], xlabel="score")
        axes.set_ylim(-len(names) + 0.4, 0.6)
        axes.grid(visible=False, axis="y")
        name_above(canvas, *axes.get_legend_handles_labels())

    height = max(0.7, 0.12 * len(names) * max(2, len(runs)) / 1.5)
    caption = "Task scores of every run, ±2 standard errors; the dotted line is what guessing would score."
    return draw_figure("tasks", caption, "Task scores per run with error bars and chance levels.", draw, height)
