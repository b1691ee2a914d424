"""How every figure is drawn: two SVGs that fit a page, one PNG, and the marks all figures share."""

import io
import re
from typing import Any

from codemix_megatron.plan.drawing import AS_WRITTEN
from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.consumption import find_spans
from codemix_megatron.report.palette import GRID, INK, OTHER, PAPER, SOFT, use_css_colours
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.training_curves import find_interruptions
from codemix_megatron.report.wording import short_count

__all__ = [
    "MOST_BESIDE",
    "NARROW",
    "WIDE",
    "draw_figure",
    "label_ends",
    "legend_heights",
    "mark_interruptions",
    "mark_phases",
    "name_above",
    "token_axis",
]

WIDE, NARROW = (9.2, 3.4), (4.4, 3.2)
LEGEND_ROW = 0.2  # inches
MOST_BESIDE = 8  # names beside lines; more stand above
LABEL_GAP = 0.075  # of the axes' height, between two names beside lines
LABEL_WIDTH = 0.2  # of the axes' width, within which two names could touch
LONGEST_LABEL = 14  # characters that fit beside the lines of a narrow figure
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": OTHER,
    "xtick.color": OTHER,
    "ytick.color": OTHER,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "codemix",
    **AS_WRITTEN,
}


def draw_figure(name: str, caption: str, description: str, draw, height: float = 1.0, narrow_height: float | None = None) -> Figure:
    """Draw twice as SVG and once as PNG; `draw(canvas)` fills a matplotlib figure. Heights are relative to the usual ones."""
    try:
        import matplotlib
    except ModuleNotFoundError:  # tables and words say the same without it
        return Figure(name=name, caption=caption, description=description, wide_svg="", narrow_svg="", png=b"")
    matplotlib.use("Agg")
    from matplotlib.figure import Figure as Canvas

    def render(size, tall, *kinds) -> list[bytes]:
        with matplotlib.rc_context(STYLE):
            canvas = Canvas(figsize=(size[0], size[1] * tall), layout="constrained")
            draw(canvas)
            return files_of(canvas, *kinds)

    wide, png = render(WIDE, height, "svg", "png")
    (narrow,) = render(NARROW, narrow_height or height, "svg")
    wide_svg, narrow_svg = (inline(svg.decode(), f"{name}-{i}") for i, svg in enumerate((wide, narrow)))
    return Figure(name=name, caption=caption, description=description, wide_svg=wide_svg, narrow_svg=narrow_svg, png=png)


def files_of(canvas, *kinds: str) -> list[bytes]:
    """Lay a filled figure out, once for all kinds of files, and return these files."""
    if layout := canvas.get_layout_engine():
        layout.execute(canvas)
    canvas.set_layout_engine(None)  # with a placeholder ("none") matplotlib would draw everything twice per file
    return [save(canvas, kind) for kind in kinds]


def save(canvas, kind: str) -> bytes:
    """Return a drawn figure as a file of one kind."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def inline(svg: str, prefix: str) -> str:
    """Return an SVG that can stand in a page: no prolog, no fixed size, ids of its own, colours of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    prefix = re.sub(r"[^\w-]", "-", prefix)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return use_css_colours(re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", svg))


def token_axis(axes, last: float = 0, first: float = 0) -> None:
    """Label an axis of tokens with short counts; it begins at `first` and reaches `last` where that is given."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value) if value else "0"))
    axes.set_xlabel("tokens trained on")
    axes.set_xlim(first, last or None)


def mark_phases(axes, run: RunData, named: bool = True) -> None:
    """Rule off the phases and write their names above where there is room for them."""
    spans = phase_edges(run)
    whole = max((end for _, _, end in spans), default=0) - run.first_token
    room = axes.figure.get_figwidth() * 13  # characters over the whole axis
    for name, begin, end in spans:
        if begin > run.first_token:
            axes.axvline(begin, color=SOFT, linewidth=0.8, zorder=1)
        if named and whole and len(name) + 1 < room * (end - begin) / whole:
            axes.text((begin + end) / 2, 1.02, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=9, color=SOFT)


def phase_edges(run: RunData) -> list[tuple[str, int, int]]:
    """Return (name, first token, last token) of the planned phases, else of those begun."""
    edges, begin = [], run.first_token
    for phase in (run.plan or {}).get("phases", []):
        edges.append((phase["name"], begin, begin + phase["tokens"]))
        begin += phase["tokens"]
    return edges or [(span.name, span.first_token, span.last_token) for span in find_spans(run)]


def mark_interruptions(axes, run: RunData) -> None:
    """Put a triangle on the axis of tokens where the run was resumed."""
    for mark in find_interruptions(run):
        if mark.kind == "resume":
            axes.plot([mark.tokens], [0], "^", color=INK, markersize=6.5, clip_on=False, transform=axes.get_xaxis_transform(), zorder=5)


def name_above(canvas, handles, names: list[str]) -> None:
    """Put a legend above a figure, in as many columns as its width holds."""
    if names:
        canvas.legend(handles, names, loc="outside upper center", ncols=legend_columns(names, canvas.get_figwidth()), fontsize=9)


def legend_columns(names: list[str], inches: float) -> int:
    """Return how many columns of a legend stand side by side."""
    return max(1, min(len(names), int(inches * 11 / (max(map(len, names)) + 7))))


def legend_heights(names: list[str]) -> tuple[float, float]:
    """Return the inches that a legend above takes in a wide and a narrow figure."""
    wide, narrow = (-(-len(names) // legend_columns(names, size[0])) * LEGEND_ROW if names else 0.0 for size in (WIDE, NARROW))
    return wide, narrow


def label_ends(axes, ends: list[tuple[str, float, float, str]]) -> None:
    """Write (name, last tokens, last value, colour) beside the lines' ends, apart from each other; a legend where names are long or many."""
    if not ends:
        return
    if len(ends) > MOST_BESIDE or max(len(name) for name, *_ in ends) > LONGEST_LABEL:
        name_above(axes.figure, *axes.get_legend_handles_labels())
        return
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    left, right = axes.get_xlim()
    taken: list = []
    for name, tokens, value, colour in sorted(ends, key=lambda end: end[2]):
        x, y = (tokens - left) / (right - left), (value - low) / (high - low)
        for beside in taken:
            if abs(beside[0] - x) < LABEL_WIDTH:
                y = max(y, beside[1] + LABEL_GAP)
        taken.append((x, y))
        offset = {"xycoords": "axes fraction", "textcoords": "offset points", "xytext": (7, 0), "va": "center", "annotation_clip": False}
        axes.annotate(name, (x, y), color=colour, fontsize=9.5, fontweight="bold", **offset)
