"""What a mixture law proposes next, as `codemix law --output DIR/law` has written it beside a study."""

from pathlib import Path

import yaml

from codemix_megatron.errors import CodemixError
from codemix_megatron.report.blocks import Cell, Section, Table
from codemix_megatron.report.wording import percent

__all__ = ["law_sections", "read_proposals"]


def read_proposals(folder: Path) -> list[dict]:
    """Return the proposals in a folder of `codemix law --output`, none where it holds none; raises CodemixError for a damaged file."""
    path = folder / "proposals.yaml"
    if not path.is_file():
        return []
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as fault:
        raise CodemixError(
            f"{path}: cannot be read ({' '.join(str(fault).split())}); write it again: codemix law --output {folder}"
        ) from None
    if not isinstance(found, list) or not all(isinstance(entry, dict) and {"purpose", "predicted"} <= set(entry) for entry in found):
        raise CodemixError(f"{path}: holds no list of proposals with purpose and predicted; write it again: codemix law --output {folder}")
    return found


def law_sections(proposals: list[dict]) -> list[Section]:
    """Return the proposals as a table, none where there are none."""
    if not proposals:
        return []
    rows = [[entry["purpose"], mixture_text(entry), predicted_cell(entry), apart_text(entry)] for entry in proposals]
    caption = (
        "Mixtures that a law fitted over the runs proposes to try next (codemix law); its intervals are of 90 % for one run's value. A proposal is"
        " no result: it holds for sizes and mixtures near those that were tried."
    )
    headings = ["proposal", "mixture", "predicted", "shares that cannot be told from the best"]
    table = Table(headings=headings, rows=rows, caption=caption, left=(0, 1, 3))
    return [Section(title="What a law proposes", anchor="law", blocks=[table])]


def mixture_text(entry: dict) -> str:
    """Return a proposal's mixture, phase by phase where it has phases."""
    if "mixture" in entry:
        return shares_text(entry["mixture"])
    return "; ".join(f"{phase['name']}: {shares_text(phase['mixture'])}" for phase in entry.get("phases", []))


def shares_text(mixture: dict) -> str:
    """Return shares in words."""
    return ", ".join(f"{name} {percent(share, 0)}" for name, share in mixture.items())


def predicted_cell(entry: dict) -> Cell:
    """Return what the law expects, with its interval."""
    low, high = entry.get("interval_90") or (None, None)
    beyond = "beyond what was tried" if entry.get("is_beyond_what_was_tried") else ""
    interval = "" if low is None else f"[{low:.3f}, {high:.3f}]"
    return Cell(f"{entry['predicted']:.3f}", below="; ".join(filter(None, (interval, beyond))))


def apart_text(entry: dict) -> str:
    """Return the range of each share among mixtures that cannot be told from the best."""
    ranges = entry.get("cannot_be_told_apart") or {}
    return ", ".join(f"{name} {percent(low, 0)} to {percent(high, 0)}" for name, (low, high) in ranges.items())
