"""A report as one HTML file: figures, style and all inside."""

import re
from html import escape
from importlib import resources
from string import Template

from codemix_megatron.report.blocks import NOT_DRAWN, Bullets, Card, Cell, Details, Figure, Missing, Paragraph, Report, Table

__all__ = ["block_html", "html_page", "page"]

MOST_SIDE_BY_SIDE = 4  # columns from which rows become lists on a narrow screen


def page(report: Report) -> str:
    """Return the HTML of a report."""
    return html_page(
        report.title,
        report.lead,
        [(section.anchor, section.title, "\n".join(map(block_html, section.blocks))) for section in report.sections],
        eyebrow=escape(report.eyebrow),
        standing=f'<span class="status {report.status_tone}">{escape(report.status)}</span><span class="date">{escape(report.date)}</span>',
        cards='<div class="cards">\n' + "\n".join(map(card_html, report.cards.cards)) + "\n</div>" if report.cards else "",
    )


def html_page(
    title: str,
    lead: str,
    sections: list[tuple[str, str, str]],
    *,
    eyebrow: str = "",
    standing: str = "",
    cards: str = "",
    style: str = "",
    scripts: str = "",
    records: str = "the run",
) -> str:
    """Return a page of sections (anchor, title, HTML); title and lead are text, all else is HTML. `style` is added to that of reports."""
    files = resources.files("codemix_megatron.report")
    return Template(files.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        lead=escape(lead),
        links="".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections),
        sections="\n".join(
            f'<section id="{anchor}">\n<h2>{escape(heading)}</h2>\n{html}\n</section>' for anchor, heading, html in sections
        ),
        eyebrow=eyebrow,
        standing=standing,
        cards=cards,
        style=files.joinpath("style.css").read_text(encoding="utf-8") + style,
        scripts=scripts,
        records=records,
    )


def card_html(card: Card) -> str:
    """Return one headline number."""
    unit = f' <span class="unit">{escape(card.unit)}</span>' if card.unit else ""
    note = f'<div class="note">{escape(card.note)}</div>' if card.note else ""
    absent = "" if card.present else " absent"
    value = f'<div class="value">{escape(card.value)}{unit}</div>'
    return f'<div class="card{absent}"><div class="label">{escape(card.label)}</div>{value}{note}{trend_svg(card.trend)}</div>'


def trend_svg(values: tuple[float, ...]) -> str:
    """Return a small line of the values, without axes."""
    if len(values) < 2:
        return ""
    low, span = min(values), (max(values) - min(values)) or 1.0
    points = " ".join(f"{100 * i / (len(values) - 1):.1f},{22 - 20 * (v - low) / span:.1f}" for i, v in enumerate(values))
    line = f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5" vector-effect="non-scaling-stroke"/>'
    return f'<svg viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">{line}</svg>'


def block_html(block) -> str:
    """Return the HTML of one block."""
    match block:
        case Paragraph():
            return f'<p class="{block.tone}">{prose(block.text)}</p>'
        case Bullets():
            return "<ul>" + "".join(f"<li>{prose(line)}</li>" for line in block.lines) + "</ul>"
        case Missing():
            command = f" <code>{escape(block.command)}</code> makes it." if block.command else ""
            return f'<div class="missing">{prose(block.what)}{command}</div>'
        case Details():
            return f"<details><summary>{escape(block.summary)}</summary><pre>{escape(block.text)}</pre></details>"
        case Figure() if not block.is_drawn:
            return f'<div class="missing">{prose(block.caption)} {prose(block.description)} {prose(NOT_DRAWN)}</div>'
        case Figure():
            drawings = "".join(
                f'<div class="drawing {kind}">{svg}</div>' for kind, svg in (("wide", block.wide_svg), ("narrow", block.narrow_svg))
            )
            label = escape(block.description, quote=True)
            return (
                f'<figure class="figure" role="img" aria-label="{label}">{drawings}<figcaption>{prose(block.caption)}</figcaption></figure>'
            )
        case Table():
            return table_html(block)
    raise TypeError(f"{type(block).__name__} is no block of a report")


def table_html(table: Table) -> str:
    """Return a table that scrolls by itself, by keyboard too, where it is too wide; on narrow screens rows of many columns become lists."""
    side = [' class="left"' if i in table.left else "" for i in range(len(table.headings))]
    head = "".join(f'<th scope="col"{side[i]}>{breakable(h)}</th>' for i, h in enumerate(table.headings))
    rows = []
    for number, row in enumerate(table.rows):
        group = ' class="group"' if number in table.group_starts and number else ""
        cells = "".join(cell_html(cell, i in table.left, table.headings[i], is_name=not i) for i, cell in enumerate(row))
        rows.append(f"<tr{group}>{cells}</tr>")
    caption = f"<caption>{prose(table.caption)}</caption>" if table.caption else ""
    stacked = ' class="stack"' if len(table.headings) >= MOST_SIDE_BY_SIDE else ""
    label = escape(table.caption.partition(".")[0] or ", ".join(table.headings[:3]), quote=True)
    drawn = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table{stacked}>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return f"<details><summary>{escape(table.folded)}</summary>{drawn}</details>" if table.folded else drawn


def breakable(heading: str) -> str:
    """Return a heading that may be broken after underscores, as names of tasks have them."""
    return escape(heading).replace("_", "_<wbr>")


def cell_html(cell, is_left: bool, heading: str, is_name: bool = False) -> str:
    """Return one table cell; the first of a row names it."""
    cell = cell if isinstance(cell, Cell) else Cell(str(cell))
    classes = " ".join(filter(None, ["left" if is_left else "", cell.tone]))
    below = f"<small>{escape(cell.below)}</small>" if cell.below else ""
    marked = f' class="{classes}"' if classes else ""
    if is_name:
        return f'<th scope="row"{marked}>{escape(cell.text)}{below}</th>'
    return f'<td{marked} data-label="{escape(heading, quote=True)}">{escape(cell.text)}{below}</td>'


def prose(text: str) -> str:
    """Escape text and set `words in backticks` as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
