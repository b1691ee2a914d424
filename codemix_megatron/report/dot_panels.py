"""Dots with intervals, a panel for each measure and a row for each variant: accuracies and bits per byte never share an axis."""

import math
from dataclasses import dataclass

from codemix_megatron.report.blocks import Figure
from codemix_megatron.report.canvas import draw_figure
from codemix_megatron.report.palette import INK, SOFT

__all__ = ["Dot", "Panel", "dot_figure", "panel_grid"]

WIDE_COLUMNS, NARROW_COLUMNS = 4, 2
NARROW_FROM = 6.0  # inches of a figure that is drawn for a narrow screen
ROW_INCHES, FRAME_INCHES = 0.21, 0.85
USUAL_WIDE, USUAL_NARROW = 3.4, 3.2  # inches that a relative height of 1 stands for
MOST_CHARACTERS = 26  # of a variant's name beside the dots


@dataclass(frozen=True)
class Dot:
    """A value and its interval; strong ones are filled, others hollow."""

    value: float
    low: float | None = None
    high: float | None = None
    strong: bool = True


@dataclass(frozen=True)
class Panel:
    """One measure: a dot for each row, None where there is no value; `line` is drawn through all rows."""

    title: str
    axis: str
    dots: list[Dot | None]
    line: float | None = None


def dot_figure(name: str, caption: str, labels: list[str], panels: list[Panel], digits: int = 3) -> Figure:
    """Draw the panels; what they show is also said in words, for those who do not see them."""

    def draw(canvas):
        for i, (axes, panel) in enumerate(zip(panel_grid(canvas, len(panels)), panels, strict=True)):
            draw_panel(axes, panel)
            is_left = i % columns_of(canvas) == 0
            axes.set_yticks([-row for row in range(len(labels))], [shorten(label) if is_left else "" for label in labels], fontsize=8)
            axes.set_ylim(-len(labels) + 0.4, 0.6)

    inches = FRAME_INCHES + ROW_INCHES * len(labels)
    wide, narrow = (math.ceil(len(panels) / min(columns, len(panels))) for columns in (WIDE_COLUMNS, NARROW_COLUMNS))
    return draw_figure(name, caption, describe(labels, panels, digits), draw, inches * wide / USUAL_WIDE, inches * narrow / USUAL_NARROW)


def columns_of(canvas) -> int:
    """Return how many panels stand side by side."""
    return NARROW_COLUMNS if canvas.get_figwidth() < NARROW_FROM else WIDE_COLUMNS


def panel_grid(canvas, number: int) -> list:
    """Return axes for so many panels, as many side by side as the figure's width holds."""
    columns = min(columns_of(canvas), number)
    rows = math.ceil(number / columns)
    grid = canvas.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[number:]:
        axes.set_visible(False)
    return list(grid[:number])


def draw_panel(axes, panel: Panel) -> None:
    """Draw one measure."""
    from matplotlib.ticker import MaxNLocator

    for row, dot in enumerate(panel.dots):
        if dot is None:
            continue
        colour = INK if dot.strong else SOFT
        if dot.low is not None:
            axes.plot([dot.low, dot.high], [-row, -row], color=colour, linewidth=1.6 if dot.strong else 1.0)
        axes.plot([dot.value], [-row], "o", color=colour, markersize=5, markerfacecolor=colour if dot.strong else "white")
    if panel.line is not None:
        axes.axvline(panel.line, color=INK, linewidth=0.8, linestyle=":")
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.set_xlabel(panel.axis, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False, axis="y")


def shorten(label: str) -> str:
    """Return a name that leaves room for the dots."""
    return label if len(label) <= MOST_CHARACTERS else f"{label[: MOST_CHARACTERS - 1]}…"


def describe(labels: list[str], panels: list[Panel], digits: int) -> str:
    """Return the numbers of all panels as text."""
    parts = []
    for panel in panels:
        said = [f"{label} {say(dot, digits)}" for label, dot in zip(labels, panel.dots, strict=True) if dot is not None]
        parts.append(f"{panel.title} ({panel.axis}): {'; '.join(said) or 'no values'}")
    return ". ".join(parts) + "."


def say(dot: Dot, digits: int) -> str:
    """Return a dot as text."""
    interval = "" if dot.low is None else f" from {dot.low:.{digits}g} to {dot.high:.{digits}g}"
    return f"{dot.value:.{digits}g}{interval}"
