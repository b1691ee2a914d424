"""Colours, lines and markers: after Okabe and Ito, distinguished in grey by dash, marker and hatch as well.

Figures are drawn in these colours; those of the page then carry CSS variables instead, so that the page
can show them on a dark ground.
"""

import re
from dataclasses import dataclass

__all__ = ["GRID", "INK", "OTHER", "PAPER", "SOFT", "Look", "assign_looks", "look_at", "use_css_colours"]

INK, SOFT, GRID, PAPER, OTHER = "#1b1f24", "#5b6570", "#d9dee4", "#ffffff", "#b4bac2"

# Okabe & Ito (2008), orange and sky blue darkened until their contrast with white is 3; yellow is left out, it cannot be read there.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b77e00", "#3b93c8", "#30363d"
ORDER = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
OF_KIND = {"text": BLUE, "code": VERMILLION, "markup": GREEN, "code_adjacent": PURPLE, "synthetic": ORANGE}
DASHES = ("solid", (0, (5, 1.6)), (0, (1.3, 1.4)), (0, (6, 1.6, 1.3, 1.6)), (0, (3, 1.3)), (0, (9, 2)), (0, (4, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "///", "\\\\\\", "xx", "---", "|||", "++")  # lines alone: dots make an SVG twenty times larger
VARIABLES = {INK: "ink", SOFT: "quiet", GRID: "line", PAPER: "paper", OTHER: "other"} | {c: f"c{i}" for i, c in enumerate(ORDER)}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one source or run is drawn everywhere."""

    colour: str
    dash: object
    marker: str
    hatch: str

    @property
    def line(self) -> dict:
        """Keyword arguments of a line."""
        return {"color": self.colour, "linestyle": self.dash}


def look_at(number: int, colour: str | None = None) -> Look:
    """Return the look of line `number`, from 0; colours come back after the seventh, with another dash and marker."""
    lap, at = divmod(number, len(ORDER))
    dash, marker = (at + lap) % len(DASHES), (at + 2 * lap) % len(MARKERS)
    return Look(colour=colour or ORDER[at], dash=DASHES[dash], marker=MARKERS[marker], hatch=HATCHES[dash])


def assign_looks(kinds: dict[str, str]) -> dict[str, Look]:
    """Give every source, named with its kind, a look: first text blue, first code vermillion, others the next free colour."""
    free = [colour for colour in ORDER if colour not in {OF_KIND.get(kind) for kind in kinds.values()}]
    looks, taken = {}, set()
    for number, (name, kind) in enumerate(kinds.items()):
        colour = OF_KIND.get(kind)
        if colour is None or colour in taken:
            colour = free.pop(0) if free else ORDER[number % len(ORDER)]
        taken.add(colour)
        looks[name] = look_at(number, colour)
    return looks


def use_css_colours(svg: str) -> str:
    """Return an SVG whose known colours are CSS variables with those colours as fallback."""
    pattern = re.compile("|".join(re.escape(colour) for colour in VARIABLES), re.IGNORECASE)
    return pattern.sub(lambda match: f"var(--{VARIABLES[match.group().lower()]}, {match.group().lower()})", svg)
