"""Figures of several runs over each other."""

from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.canvas import draw_figure, label_ends, token_axis
from codemix_megatron.report.dot_panels import Panel, dot_figure
from codemix_megatron.report.held_out import series
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.palette import look_at
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.study_figures import mean_dot

__all__ = ["compare_bits_figure", "tasks_over_arms"]


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


def tasks_over_arms(arms: list[Arm], measures: list[Measure]) -> Figure:
    """Scores of every task in every arm, a panel for each task, with the level of guessing."""
    panels = []
    for measure in measures:
        chance = None if measure.chance is None else measure.chance * measure.scale
        panels.append(
            Panel(measure.label, "points" if measure.in_points else measure.unit, [mean_dot(measure, arm) for arm in arms], chance)
        )
    caption = "Task scores of every variant: mean and standard deviation over seeds. The dotted line is what guessing, or one answer to all, scores."
    return dot_figure("tasks", caption, [arm.label for arm in arms], panels)
