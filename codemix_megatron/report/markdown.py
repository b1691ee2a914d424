"""A report as Markdown, with its figures as PNG files beside it."""

from codemix_megatron.report.blocks import Bullets, Cell, Details, Figure, Missing, Paragraph, Report, Table

__all__ = ["markdown"]


def markdown(report: Report) -> str:
    """Return the Markdown of a report; figures are expected as NAME.png beside it."""
    parts = [f"# {report.title}", report.lead, f"**{report.status}**" + (f", {report.date}" if report.date else "")]
    if report.cards:
        parts.append(
            "\n".join(
                f"- {c.label}: **{c.value}{f' {c.unit}' if c.unit else ''}**{f' ({c.note})' if c.note else ''}" for c in report.cards.cards
            )
        )
    for section in report.sections:
        parts += [f"## {section.title}", *map(block_markdown, section.blocks)]
    return "\n\n".join(parts) + "\n"


def block_markdown(block) -> str:
    """Return the Markdown of one block."""
    match block:
        case Paragraph():
            return block.text
        case Bullets():
            return "\n".join(f"- {line}" for line in block.lines)
        case Missing():
            return f"> {block.what}" + (f" `{block.command}` makes it." if block.command else "")
        case Details():
            return f"<details><summary>{block.summary}</summary>\n\n```\n{block.text.rstrip()}\n```\n\n</details>"
        case Figure():
            return f"![{block.description}]({block.name}.png)\n\n{block.caption}"
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
    return "\n".join(lines) + (f"\n\n{table.caption}" if table.caption else "")


def cell_markdown(cell) -> str:
    """Return one cell in one line; a bar in a name would end the cell."""
    cell = cell if isinstance(cell, Cell) else Cell(str(cell))
    text = f"{cell.text} ({cell.below})" if cell.below else cell.text
    return text.replace("|", "\\|").replace("\n", " ")
