"""Figures of a study: effects as a forest plot, the share of code, kinds of code; a panel for each measure."""

from collections.abc import Callable
from statistics import fmean, stdev

from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.canvas import draw_figure, name_above
from codemix_megatron.report.dot_panels import Dot, Panel, dot_figure, panel_grid
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.palette import INK, SOFT, look_at
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.sweeps import Sweep
from codemix_megatron.report.verdicts import Verdict, unlike, values_of

__all__ = ["describe_changes", "forest_figure", "mean_dot", "quality_figure", "sweep_figure"]

MOST_PANELS = 8
PANEL_INCHES, USUAL_WIDE, USUAL_NARROW = 2.5, 3.4, 3.2
OTHER_CONDITIONS = 0.8  # width of the line that says no change


def forest_figure(view: StudyView) -> Figure:
    """What every arm changed against its reference, with its interval."""
    pairs = [(i, arm) for i, (arm, base) in enumerate(view.pairs) if arm is not base]
    measures = view.measures[:MOST_PANELS]
    panels = []
    for j, measure in enumerate(measures):
        dots = [effect_dot(measure, view.verdicts.get((i, j))) for i, _ in pairs]
        better = "higher" if measure.higher_is_better else "lower"
        panels.append(Panel(measure.label, f"change, {measure.unit}\n{better} is better", dots, 0.0))
    caption = (
        "Change from the reference with its 95 % interval. Filled: distinguished from no change over runs, after Holm's correction;"
        " hollow: not distinguished. Intervals of single runs, over their items, are left out."
    )
    return dot_figure("effects", caption, [arm.label for _, arm in pairs], panels)


def effect_dot(measure: Measure, verdict: Verdict | None) -> Dot | None:
    """Return an effect as a dot."""
    if verdict is None:
        return None
    effect, scale = verdict.effect, measure.scale
    if effect.low is None or effect.high is None or verdict.over_items:
        return Dot(effect.value * scale, strong=False)
    return Dot(effect.value * scale, effect.low * scale, effect.high * scale, strong=bool(verdict.tone))


def quality_figure(arms: list[Arm], measures: list[Measure], paper: dict, name: str) -> Figure:
    """Arms on different code side by side, and the paper's."""
    panels = [
        Panel(measure.label, "points" if measure.in_points else measure.unit, [mean_dot(measure, arm) for arm in arms])
        for measure in measures[:MOST_PANELS]
    ]
    told = "; ".join(f"{row['run']} {row['reason']:.1f} and {row['code']:.1f}" for row in paper["quality"] if "→" not in row["run"])
    caption = f"Code alone, different code: mean and standard deviation over seeds. The paper's reasoning and code (Figure 5): {told}."
    return dot_figure(f"quality-{name}", caption, [arm.label for arm in arms], panels)


def mean_dot(measure: Measure, arm: Arm) -> Dot | None:
    """Return an arm's mean over seeds with their spread."""
    values = [value * measure.scale for value in values_of(measure, arm)]
    if not values:
        return None
    spread = stdev(values) if len(values) > 1 else None
    mean = fmean(values)
    return Dot(mean) if spread is None else Dot(mean, mean - spread, mean + spread)


def sweep_figure(sweeps: list[Sweep], measures: list[Measure], paper: dict | None, name: str) -> Figure:
    """Change of every measure over the share of code: a line for each size and token budget, the paper's own curve beside it."""
    drawn = measures[:MOST_PANELS]

    def draw(canvas):
        handles = {}
        for axes, measure in zip(panel_grid(canvas, len(drawn)), drawn, strict=True):
            for index, sweep in enumerate(sweeps):
                draw_line(axes, sweep, measure, index)
            if paper is not None and measure.paper_key:
                values = paper["sweep"][measure.paper_key]
                axes.plot(
                    paper["sweep"]["code_percent"], [value - values[0] for value in values], ":", color=SOFT, marker="x", label="the paper"
                )
            axes.axhline(0, color=INK, linewidth=OTHER_CONDITIONS)
            axes.set_title(measure.label, fontsize=9, loc="left")
            axes.set_ylabel(f"change, {measure.unit}", fontsize=8)
            axes.set_xlabel("code, %", fontsize=8)
            axes.tick_params(labelsize=8)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        name_above(canvas, [*handles.values()], [*handles])

    caption = f"Code {sweeps[0].where}: change from the least code; bars are standard deviations over seeds, none for one run." + (
        " The paper's curve is that of 470M parameters and 200B tokens, its own change from no code."
        if paper and any(measure.paper_key for measure in drawn)
        else ""
    )
    described = describe_changes(drawn, sweeps, line_of, "share of code", lambda share: f"{share:g} %")
    wide, narrow = (-(-len(drawn) // min(columns, len(drawn))) for columns in (4, 2))
    heights = (0.6 + PANEL_INCHES * wide) / USUAL_WIDE, (0.9 + PANEL_INCHES * narrow) / USUAL_NARROW
    return draw_figure(f"sweep-{name}", caption, described, draw, *heights)


def draw_line(axes, sweep: Sweep, measure: Measure, index: int) -> None:
    """Draw one sweep of one measure."""
    points = line_of(sweep, measure)
    if points:
        look = look_at(index)
        shares, changes, spreads = zip(*points, strict=True)
        bars = [spread or 0 for spread in spreads]
        axes.errorbar(shares, changes, yerr=bars, marker=look.marker, markersize=5, capsize=2.5, label=sweep.line, **look.line)


def line_of(sweep: Sweep, measure: Measure) -> list[tuple[float, float, float | None]]:
    """Return (share in percent, change from the least share, spread over seeds) of the arms that have been scored as that one."""
    points: list[tuple[float, float, float | None]] = []
    least = next((arm for arm in sweep.arms if values_of(measure, arm)), None)
    for share, arm in zip(sweep.shares, sweep.arms, strict=True):
        values = [value * measure.scale for value in values_of(measure, arm)]
        if values and least is not None and not unlike(arm, least, measure):
            points.append((100 * share, fmean(values), stdev(values) if len(values) > 1 else None))
    return [(share, mean - points[0][1], spread) for share, mean, spread in points]


def describe_changes(measures: list[Measure], lines: list, points_of: Callable, over: str, shown: Callable[[float], str]) -> str:
    """Return the numbers that `points_of` a line and a measure draws, as text: the change over what is called `over`."""
    parts = []
    for measure in measures:
        for line in lines:
            said = "; ".join(f"{shown(x)} {change:+.3g}" for x, change, _ in points_of(line, measure))
            parts.append(f"{measure.label}, {line.line}, change by {over}: {said or 'no values'}")
    return ". ".join(parts) + "."
