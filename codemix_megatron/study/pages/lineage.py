"""The lineage of a study as one SVG: corpora -> runs that go on from each other -> variants with their scores."""

from html import escape
from pathlib import Path

from codemix_megatron.report.arms import code_share
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import percent, short_count
from codemix_megatron.study.pages.contents import StudyContents

__all__ = ["lineage_svg"]

WIDTH, GAP, ROW, BOX = 180, 44, 54, 40  # pixels: a column, between columns, a row, a box


def lineage_svg(contents: StudyContents) -> str:
    """Return the drawing; a run that several variants go through stands once, beside the first of them."""
    depth = max(len(run.ancestors) for run in contents.variants) + 1
    boxes, lines, cells = [], [], dict[Path, tuple[int, int]]()
    corpora = {name: row for row, name in enumerate(contents.corpora)}
    for name, row in corpora.items():
        manifest = contents.corpora[name]
        told = f"{short_count(manifest.num_tokens)} tokens, {manifest.kind}" if manifest else "not there any more"
        boxes.append(box(0, row, name, told, "corpus"))
    for row, run in enumerate(contents.variants):
        before: tuple[int, int] | None = None
        for column, folder in enumerate([*run.ancestors[::-1], run.folder.path], start=1):
            is_new = folder not in cells
            here = cells.setdefault(folder, (column, row))
            if is_new:
                boxes.append(box(*here, folder.name, phase_text(run, column - 1), "run", f"#recipe-{run.folder.path.name}"))
                starts = [(0, corpora[name]) for name in sources_of(run, column - 1) if name in corpora] if column == 1 else [before]
                lines += [curve(start, here) for start in starts if start]
            before = here
        boxes.append(box(depth + 1, row, run.name, scores_text(run), "scores"))
        lines.append(curve(before or (0, 0), (depth + 1, row)))
    height = ROW * max(len(corpora), len(contents.variants)) + 10
    width = (WIDTH + GAP) * (depth + 2) - GAP
    return (
        f'<svg class="lineage" viewBox="-1 0 {width + 2} {height}" width="{width + 2}" height="{height}" role="img"'
        f' aria-label="corpora, runs and scores">{"".join(lines)}{"".join(boxes)}</svg>'
    )


def box(column: int, row: int, title: str, told: str, kind: str, link: str = "") -> str:
    """Return a box with a name and a line about it."""
    left, top = column * (WIDTH + GAP), row * ROW + 5
    drawn = (
        f'<g class="{kind}"><title>{escape(title)}</title><rect x="{left}" y="{top}" width="{WIDTH}" height="{BOX}" rx="6"/>'
        f'<text x="{left + 10}" y="{top + 17}">{escape(shortened(title))}</text>'
        f'<text class="quiet" x="{left + 10}" y="{top + 32}">{escape(told)}</text></g>'
    )
    return f'<a href="{escape(link, quote=True)}">{drawn}</a>' if link else drawn


def curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return a line from the right of one box to the left of another."""
    x1, y1 = start[0] * (WIDTH + GAP) + WIDTH, start[1] * ROW + 5 + BOX // 2
    x2, y2 = end[0] * (WIDTH + GAP), end[1] * ROW + 5 + BOX // 2
    middle = (x1 + x2) // 2
    return f'<path d="M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}"/>'


def shortened(name: str, most: int = 23) -> str:
    """Return a name that fits its box; the whole one is shown when pointed at."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"


def phase_text(run: RunData, number: int) -> str:
    """Say which phase a run of the chain trained, and for how long."""
    phases = (run.plan or {}).get("phases", [])
    return f"{phases[number]['name']}, {short_count(phases[number]['tokens'])} tokens" if number < len(phases) else ""


def sources_of(run: RunData, number: int) -> list[str]:
    """Return the corpora that a phase draws from."""
    phases = (run.plan or {}).get("phases", [])
    return [name for name, drawn in phases[number]["sources"].items() if drawn["tokens"]] if number < len(phases) else []


def scores_text(run: RunData) -> str:
    """Say how much of a variant was code, and whether it is scored."""
    share = code_share(run)
    told = "" if share is None else f"{percent(share, 0)} code, "
    return told + ("scored" if run.scores else "not scored")
