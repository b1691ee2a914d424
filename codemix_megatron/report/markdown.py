"""A report as Markdown, with its figures as PNG files beside it. What stands in it is text: no HTML, no links of its own."""

import re
from html import escape

from codemix_megatron.report.blocks import NOT_DRAWN, Bullets, Cell, Details, Figure, Missing, Paragraph, Report, Table

__all__ = ["markdown"]

LINK = re.compile(r"\[(?=[^\]\n]{0,1000}\]\()")


def markdown(report: Report) -> str:
    """Return the Markdown of a report; figures are expected as NAME.png beside it."""
    date = f", {prose(report.date)}" if report.date else ""
    parts = [f"# {prose(report.title)}", prose(report.lead), f"**{prose(report.status)}**{date}"]
    if report.cards:
        parts.append(
            "\n".join(
                prose(f"- {c.label}: **{c.value}{f' {c.unit}' if c.unit else ''}**{f' ({c.note})' if c.note else ''}")
                for c in report.cards.cards
            )
        )
    for section in report.sections:
        parts += [f"## {prose(section.title)}", *map(block_markdown, section.blocks)]
    return "\n\n".join(parts) + "\n"


def block_markdown(block) -> str:
    """Return the Markdown of one block."""
    match block:
        case Paragraph():
            return prose(block.text)
        case Bullets():
            return "\n".join(f"- {prose(line)}" for line in block.lines)
        case Missing():
            return f"> {prose(block.what)}" + (f" `{block.command}` makes it." if block.command else "")
        case Details():
            return f"<details><summary>{escape(block.summary)}</summary>\n\n<pre>{escape(block.text.rstrip())}</pre>\n\n</details>"
        case Figure() if not block.is_drawn:
            return f"> {prose(block.caption)} {prose(block.description)} {prose(NOT_DRAWN)}"
        case Figure():
            return f"![{prose(block.description)}]({block.name}.png)\n\n{prose(block.caption)}"
        case Table():
            return table_markdown(block)
    raise TypeError(f"{type(block).__name__} is no block of a report")


def table_markdown(table: Table) -> str:
    """Return a table with its caption below."""
    lines = [
        "| " + " | ".join(map(cell_markdown, table.headings)) + " |",
        "|" + "|".join("---" if i in table.left else "---:" for i in range(len(table.headings))) + "|",
    ]
    lines += ["| " + " | ".join(map(cell_markdown, row)) + " |" for row in table.rows]
    return "\n".join(lines) + (f"\n\n{prose(table.caption)}" if table.caption else "")


def cell_markdown(cell) -> str:
    """Return one cell in one line; a bar in a name would end the cell."""
    cell = cell if isinstance(cell, Cell) else Cell(str(cell))
    text = f"{cell.text} ({cell.below})" if cell.below else cell.text
    return prose(text).replace("|", "\\|").replace("\n", " ")


def prose(text: str) -> str:
    """Return a text in which nothing is HTML or a link; `words in backticks` stay code, in which nothing is either."""
    parts = re.split(r"(`[^`\n]*`)", text)
    return "".join(part if part.startswith("`") else LINK.sub(r"\\[", part.replace("&", "&amp;").replace("<", "&lt;")) for part in parts)
