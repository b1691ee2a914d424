"""One picture of a study: which run continues which, over tokens, coloured by the share of code."""

from pathlib import Path
from typing import Any

from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.drawing import AS_WRITTEN
from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.study.planning import StudyPlan, code_share
from codemix_megatron.study.segments import Graph

__all__ = ["SHARES_OF_CODE", "assign_rows", "draw_study"]

FORMATS = (".png", ".pdf", ".svg")
INK, QUIET = "#1b1f24", "#5b6570"
SHARES_OF_CODE = ("#004c7f", "#8f9aa5", "#ffb27a")  # blue as the report's text, orange as its code; ever lighter, to be read in grey
ROW_INCHES, BAR = 0.27, 0.62


def draw_study(name: str, plan: StudyPlan, path) -> Path:
    """Draw the tree of runs; the suffix of `path` decides the format."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise CodemixError(f"--figure {path}: suffix {path.suffix or 'missing'}; allowed are {', '.join(FORMATS)}")
    import matplotlib

    settings: dict[Any, Any] = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        **AS_WRITTEN,
    }
    with matplotlib.rc_context(settings):
        figure = compose(name, plan)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return path


def compose(name: str, plan: StudyPlan):
    """Return the figure: a bar for every run, at the row where variants end or others go on."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure

    rows = assign_rows(plan.graph)
    count = max(rows.values()) + 1
    figure = Figure(figsize=(9.6, 1.5 + ROW_INCHES * count), layout="constrained")
    axes, colours = figure.subplots(), LinearSegmentedColormap.from_list("code", SHARES_OF_CODE)
    tokens, alone = plan.total(lambda p: p.tokens), plan.alone(lambda p: p.tokens)
    title = f"{name}: {len(plan.graph.paths)} variants in {len(plan.graph.segments)} runs; {format_tokens(tokens)} tokens, {format_tokens(alone)} alone"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, color=INK)
    last = max(p.first_token + p.tokens for p in plan.plans.values())
    for segment in plan.graph.segments.values():
        draw_segment(axes, plan, segment, rows, colours, last)
    axes.set(ylim=(count - 0.4, -0.7), xlim=(0, last), yticks=[], xlabel="tokens trained on")
    axes.xaxis.set_major_formatter(lambda value, _: format_tokens(round(value)) if value else "0")
    axes.tick_params(colors=QUIET, labelcolor=INK)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), colours), ax=axes, location="bottom", shrink=0.35, aspect=30, pad=0.01)
    bar.set_label("share of code in the phase; bold: shared by several variants", color=QUIET, fontsize=8)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25 %", "50 %", "75 %", "100 %"])
    bar.outline.set_visible(False)
    return figure


def assign_rows(graph: Graph, parent: str | None = None, rows: dict[str, int] | None = None) -> dict[str, int]:
    """Return segment -> row. The first child stays on its parent's row, unless variants end there, whose names stand beside it."""
    rows = {} if rows is None else rows
    for i, child in enumerate(graph.children(parent)):
        goes_on = i == 0 and parent is not None and not graph.segments[parent].ends
        rows[child.name] = rows[parent] if goes_on and parent else max(rows.values(), default=-1) + 1
        assign_rows(graph, child.name, rows)
    return rows


def draw_segment(axes, plan: StudyPlan, segment, rows: dict[str, int], colours, last: int) -> None:
    """Draw one bar with its phase, the line from its parent, and the names of the variants that end there."""
    numbers, row, share = plan.plans[segment.name], rows[segment.name], code_share(plan.plans[segment.name])
    begin, end = numbers.first_token, numbers.first_token + numbers.tokens
    colour = colours(share)
    axes.barh(row, end - begin, BAR, left=begin, color=colour, edgecolor="white", linewidth=1.2, zorder=2)
    if segment.parent is not None and rows[segment.parent] != row:
        axes.plot([begin, begin], [rows[segment.parent], row], color=INK, linewidth=1.3, zorder=4, solid_capstyle="butt")
    shared = len(segment.variants) > 1
    inside = numbers.tokens / last * 90  # characters that the bar holds, about
    if len(segment.phase.name) <= inside:
        ink = "white" if share < 0.35 else INK
        axes.text(
            (begin + end) / 2,
            row,
            segment.phase.name,
            ha="center",
            va="center",
            fontsize=7.5,
            color=ink,
            weight="bold" if shared else None,
            zorder=3,
        )
    if segment.ends:
        offset = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        axes.annotate(", ".join(segment.ends), (end, row), fontsize=8.5, color=INK, weight="bold" if shared else None, **offset)
