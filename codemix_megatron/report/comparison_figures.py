"""Figures of several runs over each other."""

from statistics import fmean

from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.canvas import MOST_BESIDE, NARROW, WIDE, draw_figure, label_ends, legend_heights, token_axis
from codemix_megatron.report.dot_panels import Panel, dot_figure
from codemix_megatron.report.held_out import series
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.palette import look_at
from codemix_megatron.report.study_figures import mean_dot
from codemix_megatron.report.wording import short_count

__all__ = ["compare_bits_figure", "tasks_over_arms"]


def compare_bits_figure(arms: list[Arm], source: str) -> Figure:
    """Held-out bits per byte of one source over all variants: the mean over seeds, and the range they lie in."""
    curves = [(arm, *mean_series(arm, source)) for arm in arms]

    def draw(canvas):
        axes, ends = canvas.subplots(), []
        for index, (arm, tokens, values) in enumerate(curves):
            if tokens:
                look, every, means = look_at(index), max(1, len(tokens) // 25), [fmean(each) for each in values]
                line = {"marker": look.marker, "markevery": every, "markersize": 4, "clip_on": False, **look.line}
                axes.plot(tokens, means, label=arm.label, **line)
                if arm.seeds > 1:
                    axes.fill_between(tokens, [min(each) for each in values], [max(each) for each in values], color=look.colour, alpha=0.15)
                ends.append((arm.label, tokens[-1], means[-1], look.colour))
        axes.set(ylabel=f"bits per byte, {source}")
        token_axis(axes, max(run.tokens for arm in arms for run in arm.runs))
        label_ends(axes, ends)

    name = "held-out-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in source)
    seeds = "; the mean over seeds and the range they lie in" if any(arm.seeds > 1 for arm in arms) else ""
    caption = f"Held-out bits per byte of {source} in every variant{seeds}; lower is better."
    said = "; ".join(
        f"{arm.label} {fmean(values[-1]):.3f} after {short_count(tokens[-1])} tokens" for arm, tokens, values in curves if tokens
    )
    names = [arm.label for arm, tokens, _ in curves if tokens]
    above = legend_heights(names) if len(names) > MOST_BESIDE else (0.0, 0.0)
    heights = 1 + above[0] / WIDE[1], 1 + above[1] / NARROW[1]
    return draw_figure(name, caption, f"Bits per byte of {source} at the end: {said or 'no values'}.", draw, *heights)


def mean_series(arm: Arm, source: str) -> tuple[list[int], list[list[float]]]:
    """Return the tokens at which every measured seed of an arm was measured, and the seeds' values there."""
    measured = [dict(zip(*series(run, source), strict=True)) for run in arm.runs]
    measured = [each for each in measured if each]
    tokens = sorted(set.intersection(*map(set, measured))) if measured else []
    return tokens, [[each[at] for each in measured] for at in tokens]


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
