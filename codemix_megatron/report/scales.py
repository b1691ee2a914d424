"""What a variant changes at each size: a line for each variant and token budget, and whether one size changes it more than another."""

from dataclasses import dataclass, replace
from statistics import fmean

from codemix_megatron.analysis.effects import Effect, effect_of_contrast, holm
from codemix_megatron.report.arms import Arm
from codemix_megatron.report.blocks import Figure, Section
from codemix_megatron.report.canvas import draw_figure, legend_heights, name_above
from codemix_megatron.report.dot_panels import panel_grid
from codemix_megatron.report.measures import Measure
from codemix_megatron.report.palette import INK, SOFT, look_at
from codemix_megatron.report.paper import read_paper
from codemix_megatron.report.study_figures import describe_changes
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.verdicts import Verdict, decide, unlike, values_of
from codemix_megatron.report.wording import plural, short_count

__all__ = ["Scale", "find_scales", "judge_scales", "paper_scale", "scale_line", "scale_sections", "scale_sentences"]

MOST_PANELS = 8
PANEL_INCHES, USUAL_WIDE, USUAL_NARROW = 2.5, 3.4, 3.2
PAPER_PARAMETERS = {"470M": 470e6, "2.8B": 2.8e9}
PAPER_STAGES = ("pre-training, 400B", "continued, +200B")  # what it shows of 2.8B has 400B tokens and no cooldown


@dataclass(frozen=True)
class Scale:
    """One variant at several sizes with as many tokens; each with its reference of the same size and tokens."""

    name: str
    tokens: int
    pairs: tuple[tuple[Arm, Arm], ...]  # by rising size

    @property
    def line(self) -> str:
        """Say what its arms have in common."""
        return f"{self.name}, {short_count(self.tokens)} tokens"


def find_scales(view: StudyView) -> list[Scale]:
    """Return every variant that stands at two sizes or more beside a reference of the same size and tokens."""
    groups: dict[tuple, list[tuple[Arm, Arm]]] = {}
    axes = axes_of_size(view.arms)
    for arm, base in view.pairs:
        if arm is not base and arm.parameters and arm.budget == base.budget:
            groups.setdefault((name_without_size(arm, axes), arm.tokens), []).append((arm, base))
    scales = [
        Scale(name, tokens, tuple(sorted(pairs, key=lambda pair: pair[0].parameters or 0))) for (name, tokens), pairs in groups.items()
    ]
    return [scale for scale in scales if len({arm.parameters for arm, _ in scale.pairs}) == len(scale.pairs) > 1]


def axes_of_size(arms: list[Arm]) -> set[str]:
    """Return the axes whose points differ in the number of parameters, and each of which has one."""
    sizes: dict[str, dict[str, set[int | None]]] = {}
    for arm in arms:
        for axis, point in arm.first.points.items():
            sizes.setdefault(axis, {}).setdefault(point, set()).add(arm.parameters)
    return {axis for axis, found in sizes.items() if all(len(each) == 1 for each in found.values()) and len(set.union(*found.values())) > 1}


def name_without_size(arm: Arm, axes: set[str]) -> str:
    """Return what an arm is called at every size: its variant and its points on other axes than size, else its mixture phase by phase."""
    if arm.first.variant:
        return "-".join([arm.first.variant, *(point for axis, point in arm.first.points.items() if axis not in axes)])
    return " then ".join(" ".join(f"{name} {100 * share:.0f}%" for name, share in phase.mixture) for phase in arm.phases) or arm.label


def scale_sections(view: StudyView) -> list[Section]:
    """Return a panel for each measure over sizes, none where no variant stands at two."""
    scales = find_scales(view)
    if not scales:
        return []
    return [Section(title="Size", anchor="scale", blocks=[scale_figure(scales, view.measures)])]


def judge_scales(scales: list[Scale], measures: list[Measure]) -> dict[tuple[int, int], Verdict]:
    """Return (index of the scale, index of the measure) -> whether the largest size changes a measure otherwise than the smallest does.

    A difference of differences over seeds by Welch's t of a contrast; all of them are one family.
    """
    found: dict[tuple[int, int], Verdict] = {}
    for i, scale in enumerate(scales):
        (small, small_base), (large, large_base) = scale.pairs[0], scale.pairs[-1]
        for j, measure in enumerate(measures):
            groups = [values_of(measure, arm) for arm in (large, large_base, small, small_base)]
            contents = {measure.content(run) for arm in (large, large_base, small, small_base) for run in arm.runs if run.scores}
            apart = unlike(large, large_base, measure) or unlike(small, small_base, measure)
            if all(groups) and len(contents) == 1 and not apart:
                found[i, j] = Verdict(effect_of_contrast(groups, (1, -1, -1, 1)), "")
    family = [key for key, verdict in found.items() if verdict.effect.is_decidable]
    for key, adjusted in zip(family, holm([found[key].effect.p_value for key in family]), strict=True):
        found[key] = replace(found[key], adjusted=adjusted, words=decide(found[key].effect, adjusted, measures[key[1]]))
    return found


def scale_sentences(scales: list[Scale], view: StudyView) -> list[str]:
    """Say for each variant what it changes at its smallest and largest size, where the two can be distinguished, else that they cannot."""
    verdicts, lines = judge_scales(scales, view.measures), []
    alike: dict[str, list[str]] = {}
    for i, scale in enumerate(scales):
        small, large = (short_count(pair[0].parameters) for pair in (scale.pairs[0], scale.pairs[-1]))
        apart = [sentence_of(view.measures[j], verdicts[i, j].effect) for j in range(len(view.measures)) if is_told(verdicts.get((i, j)))]
        decided = sum(verdict.adjusted is not None for (index, _), verdict in verdicts.items() if index == i)
        if apart:
            lines.append(f"{scale.line}: at {large} its change differs from that at {small} by {'; '.join(apart)}.")
        elif decided:
            alike.setdefault(f"change at {large} cannot be told from that at {small} on any of {plural(decided, 'measure')}", []).append(
                scale.line
            )
        else:
            alike.setdefault("one run of each: whether size matters cannot be told", []).append(scale.line)
    return lines + [f"{'; '.join(names)}: {words}." for words, names in alike.items()]


def is_told(verdict: Verdict | None) -> bool:
    """Say whether something was decided."""
    return verdict is not None and bool(verdict.tone)


def sentence_of(measure: Measure, effect: Effect) -> str:
    """Return one measure's difference of differences."""
    scale, digits = measure.scale, measure.digits
    assert effect.low is not None and effect.high is not None
    interval = f"[{effect.low * scale:.{digits}f}, {effect.high * scale:.{digits}f}]"
    return f"{effect.value * scale:+.{digits}f} {interval} {measure.unit} ({measure.label})"


def scale_line(scale: Scale, measure: Measure) -> list[tuple[float, float, float | None]]:
    """Return (parameters, change from the reference of the same size, reach of its interval over seeds) where both are scored alike."""
    points = []
    for arm, base in scale.pairs:
        ours, theirs = values_of(measure, arm), values_of(measure, base)
        if ours and theirs and not unlike(arm, base, measure):
            effect = effect_of_contrast((ours, theirs), (1, -1))
            reach = None if effect.high is None else (effect.high - effect.value) * measure.scale
            points.append((float(arm.parameters or 0), (fmean(ours) - fmean(theirs)) * measure.scale, reach))
    return points


def paper_scale(paper: dict, key: str) -> dict[str, list[tuple[float, float]]]:
    """Return variant -> (parameters, change from balanced-only) of the paper, which gives no text-only at 2.8B."""
    small = {row["variant"]: row for row in paper["variants"] if row["stage"] in PAPER_STAGES}
    large = {row["variant"]: row for row in paper["scale"]}
    base = "balanced-only"
    return {
        name: [
            (PAPER_PARAMETERS["470M"], small[name][key] - small[base][key]),
            (PAPER_PARAMETERS["2.8B"], large[name][key] - large[base][key]),
        ]
        for name in large
        if name != base and name in small
    }


def scale_figure(scales: list[Scale], measures: list[Measure]) -> Figure:
    """Change from the reference over the number of parameters, a panel for each measure, the paper's own lines beside it."""
    drawn, paper = measures[:MOST_PANELS], read_paper()
    sizes = sorted({float(arm.parameters or 0) for scale in scales for arm, _ in scale.pairs})
    has_paper = any(measure.paper_key for measure in drawn)

    def draw(canvas):
        handles: dict = {}
        for axes, measure in zip(panel_grid(canvas, len(drawn)), drawn, strict=True):
            for index, scale in enumerate(scales):
                draw_scale(axes, scale_line(scale, measure), index, scale.line)
            for name, points in paper_scale(paper, measure.paper_key).items() if measure.paper_key else ():
                axes.plot(*zip(*points, strict=True), ":", color=SOFT, marker="x", label=f"the paper's {name}")
            finish_axes(axes, measure, sizes)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        name_above(canvas, [*handles.values()], [*handles])

    caption = "Change from the reference of the same size and tokens; bars are 95 % intervals over seeds, none for one run." + (
        " The paper's lines are changes from its balanced-only, since it shows no text-only at 2.8B, after 400B tokens without cooldown."
        if has_paper
        else ""
    )
    wide, narrow = (-(-len(drawn) // min(columns, len(drawn))) for columns in (4, 2))
    names = legend_heights([*(scale.line for scale in scales), *(["the paper's balanced→text"] * 2 if has_paper else [])])
    heights = (0.4 + names[0] + PANEL_INCHES * wide) / USUAL_WIDE, (0.4 + names[1] + PANEL_INCHES * narrow) / USUAL_NARROW
    return draw_figure("scale", caption, describe_changes(drawn, scales, scale_line, "parameters", short_count), draw, *heights)


def draw_scale(axes, points, index: int, label: str) -> None:
    """Draw one variant's line."""
    if points:
        look = look_at(index)
        sizes, changes, reach = zip(*points, strict=True)
        bars = [each or 0 for each in reach]
        axes.errorbar(sizes, changes, yerr=bars, marker=look.marker, markersize=5, capsize=2.5, label=label, **look.line)


def finish_axes(axes, measure: Measure, sizes: list[float]) -> None:
    """Name the axes; sizes are on a logarithmic one, named by their counts."""
    from matplotlib.ticker import NullFormatter

    axes.set_xscale("log")
    axes.set_xticks(sizes, [short_count(size) for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_title(measure.label, fontsize=9, loc="left")
    axes.set_ylabel(f"change, {measure.unit}", fontsize=8)
    axes.set_xlabel("parameters", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.15)
