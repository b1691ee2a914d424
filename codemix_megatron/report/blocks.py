"""What a report is made of, before it is HTML or Markdown.

Text is plain but for `words in backticks`, which are set as code. Nothing here knows about runs.
"""

from dataclasses import dataclass, field

__all__ = ["NOT_DRAWN", "Bullets", "Card", "Cards", "Cell", "Details", "Figure", "Missing", "Paragraph", "Report", "Section", "Table"]

NOT_DRAWN = "Not drawn: matplotlib is not installed; pip install 'codemix_megatron[figures]'."


@dataclass(frozen=True, kw_only=True)
class Card:
    """One headline number; `trend` is drawn as a small line under it."""

    label: str
    value: str
    unit: str = ""
    note: str = ""
    trend: tuple[float, ...] = ()
    present: bool = True


@dataclass(frozen=True)
class Cards:
    """Headline numbers side by side."""

    cards: list[Card]


@dataclass(frozen=True)
class Paragraph:
    """Running text; tone is "", "quiet" or "warning"."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of short lines."""

    lines: list[str]


@dataclass(frozen=True)
class Cell:
    """Table cell with a second, quieter line and a tone: "", "good", "bad" or "quiet"."""

    text: str
    below: str = ""
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text or Cell; the columns named in `left` are words, all others numbers. `folded` hides a long one behind these words."""

    headings: list[str]
    rows: list[list]
    caption: str = ""
    left: tuple[int, ...] = (0,)
    group_starts: tuple[int, ...] = ()  # rows that begin a new group, ruled off from the one before
    folded: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawn figure: two SVGs (for wide and narrow screens), a PNG, and what it says in words."""

    name: str
    caption: str
    description: str
    wide_svg: str
    narrow_svg: str
    png: bytes

    @property
    def is_drawn(self) -> bool:
        """Say whether there was something to draw it with."""
        return bool(self.png)


@dataclass(frozen=True)
class Missing:
    """A part that is not there yet, and the command that makes it."""

    what: str
    command: str = ""


@dataclass(frozen=True)
class Details:
    """Text shown on demand."""

    summary: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and blocks; `anchor` is its id in the page, for links."""

    title: str
    anchor: str
    blocks: list = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole page."""

    title: str
    eyebrow: str
    lead: str
    status: str
    status_tone: str  # good, warning or quiet
    date: str
    cards: Cards | None = None
    sections: list[Section] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        """Return all drawn figures in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure) and block.is_drawn]
