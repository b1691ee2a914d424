"""The paper's numbers, as context beside a run."""

import json
from importlib import resources

from codemix_megatron.report.blocks import Cell, Paragraph, Table
from codemix_megatron.report.wording import relative

__all__ = ["PAPER_COLUMNS", "paper_blocks", "read_paper"]

PAPER_COLUMNS = {"reason": "reasoning", "know": "knowledge", "code": "code"}
NOTE = "For orientation, not for comparison: a small run is another model on other data, scored on other items."
CAUTION = (
    "The paper reports neither seeds nor standard errors, and its text-only model scored 49.0 in reasoning after 400B tokens but 50.2"
    " after 200B in the sweep: differences of about a point are not resolved. Its balanced and code variants of the first table saw a"
    " proprietary synthetic code set as well; without it, balanced→text reached 52.0 in reasoning and 3.4 in code."
)


def read_paper() -> dict:
    """Return the paper's tables."""
    return json.loads(resources.files("codemix_megatron.report").joinpath("paper.json").read_text(encoding="utf-8"))


def paper_blocks() -> list:
    """Return the paper's two tables with gains over text-only, and how far they can be trusted."""
    paper = read_paper()
    return [Paragraph(NOTE, "quiet"), variants_table(paper), sweep_table(paper), Paragraph(CAUTION, "quiet")]


def variants_table(paper: dict) -> Table:
    """Return Table 2; each stage is set against the same stage of text-only, where there is one with as many tokens."""
    rows, groups = [], []
    for i, line in enumerate(paper["variants"]):
        is_new = i == 0 or line["variant"] != paper["variants"][i - 1]["variant"]
        groups += [i] if is_new else []
        base = None if line["against"] is None else paper["variants"][line["against"]]
        cells = [Cell(f"{line[key]:.1f}", below=relative(line[key], base[key]) if base else "") for key in PAPER_COLUMNS]
        rows.append([line["variant"] if is_new else "", line["stage"], *cells])
    caption = (
        f"{paper['source']}, {paper['variants_from']}. {paper['models']}. Below: relative to text-only at the same stage and token count."
    )
    return Table(
        headings=["variant", "stage", *PAPER_COLUMNS.values()], rows=rows, caption=caption, left=(0, 1), group_starts=tuple(groups)
    )


def sweep_table(paper: dict) -> Table:
    """Return the sweep over shares of code, relative to no code."""
    sweep = paper["sweep"]
    rows = []
    for key, name in PAPER_COLUMNS.items():
        below = [relative(value, sweep[key][0]) if i and key != "code" else "" for i, value in enumerate(sweep[key])]
        rows.append([name, *(Cell(f"{value:.1f}", below=text) for value, text in zip(sweep[key], below, strict=True))])
    headings = ["share of code", *(f"{share} %" for share in sweep["code_percent"])]
    caption = f"One model per share of code, 200B tokens from scratch; {paper['sweep_from']}. Below: relative to no code."
    return Table(headings=headings, rows=rows, caption=caption)
