"""What `codemix law` prints and writes."""

import sys
from dataclasses import asdict
from pathlib import Path

__all__ = ["print_errors", "print_proposals", "write"]

MOST_COLUMNS = 6


def print_errors(table, fits: dict) -> None:
    """Print how each form does on runs it has not seen."""
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(f"{len(table.runs)} runs, {table.described}", highlight=False)
    headings = ("metric", "over", "law", "held-out error", "of the spread", "out of range", "rank correlation", "")
    shown = Table(*headings, title="error on runs a law has not seen", title_justify="left")
    for column in shown.columns[3:7]:
        column.justify = "right"
    for metric, fit in fits.items():
        used = {form.kind for form in fit.law.forms}
        for view, forms in fit.views.items():
            for form in forms:
                error = form.error
                words = "no better than the mean" if error.relative >= 1 else "used" if view == fit.used and form.kind in used else ""
                outside = "" if error.outside is None else f"{100 * error.outside:.0f} %"
                figures = (f"{error.root_mean_square:.4f}", f"{100 * error.relative:.0f} %", outside, f"{error.rank_correlation:.3f}")
                shown.add_row(metric, view, form.kind, *figures, words)
    console.print(shown)


def print_proposals(proposals, objective: list[str]) -> None:
    """Print mixtures to try."""
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    names = list(proposals[0].shares)
    named = names if len(names) <= MOST_COLUMNS else sorted(names, key=lambda name: -max(p.shares[name] for p in proposals))[:MOST_COLUMNS]
    shown = Table("mixture", *named, "predicted", "epochs at most", "", title=f"next, by {', '.join(objective)}", title_justify="left")
    for column in shown.columns[1:-1]:
        column.justify = "right"
    for p in proposals:
        epochs = "" if p.most_epochs is None else f"{p.most_epochs:.2f}"
        interval = "" if p.low is None else f" ({p.low:.4f} to {p.high:.4f})"
        cells = [share_text(p, name) for name in named]
        shown.add_row(p.purpose, *cells, f"{p.predicted:.4f}{interval}", epochs, "beyond what was tried" if p.is_outside else "")
    Console(width=None if sys.stdout.isatty() else 130).print(shown)


def share_text(proposal, name: str) -> str:
    """Return a share, with its range among mixtures that cannot be told from the best."""
    text = f"{proposal.shares[name]:.3f}"
    if name not in proposal.ranges:
        return text
    low, high = proposal.ranges[name]
    return f"{text} [{low:.2f}, {high:.2f}]".replace("[", "(").replace("]", ")")


def write(folder: Path, table, fits: dict, proposals) -> None:
    """Write the tables, what was fitted, and the proposals as mixture blocks."""
    import yaml

    from codemix_megatron.analysis.law_tables import write_tables
    from codemix_megatron.records.atomic import replace_text, write_json

    write_tables(table, folder)
    write_json(folder / "law.json", law_as_plain(table, fits))
    if proposals:
        replace_text(folder / "proposals.yaml", yaml.safe_dump([block_of(p) for p in proposals], sort_keys=False))
    sys.stderr.write(f"{folder}\n")


def law_as_plain(table, fits: dict) -> dict:
    """Return what was fitted to which runs."""
    content = {"runs": len(table.runs), "domains": table.domains, "phases": table.phases, "sizes": table.sizes}
    return {**content, "metrics": {metric: fit_as_plain(fit, table) for metric, fit in fits.items()}}


def fit_as_plain(fit, table) -> dict:
    """Return what was fitted to one metric: errors of every form, coefficients with their standard errors where a form has them."""
    plain: dict = {"over": fit.used, "used": fit.law.kind}
    for view, forms in fit.views.items():
        plain[view] = {}
        for form in forms:
            entry = asdict(form.error)
            if known := form.coefficient_errors():
                names = form.whole.names((table if view == "phases" else table.totals()).domains, table.sizes)
                values = zip(names, *(column.tolist() for column in known), strict=True)
                entry["coefficients"] = {name: {"value": value, "standard_error": error} for name, value, error in values}
            plain[view][form.kind] = entry
    return plain


def block_of(proposal) -> dict:
    """Return a proposal as a recipe takes its mixture, or one for each phase."""
    from codemix_megatron.analysis.law_proposals import rounded_shares

    block: dict = {"purpose": proposal.purpose, "predicted": proposal.predicted}
    if proposal.low is not None:
        block["interval_90"] = [proposal.low, proposal.high]
    if proposal.ranges:
        block["cannot_be_told_apart"] = {name: [round(low, 4), round(high, 4)] for name, (low, high) in proposal.ranges.items()}
    block["is_beyond_what_was_tried"] = proposal.is_outside
    block["most_epochs"] = proposal.most_epochs
    if not proposal.phases:
        return {**block, "mixture": rounded_shares(proposal.shares)}
    parts: dict[str, dict[str, float]] = {phase: {} for phase in proposal.phases}
    for name, share in proposal.shares.items():
        phase, _, domain = name.partition("/")
        parts[phase][domain] = share
    phases = []
    for phase, shares in parts.items():
        weight = sum(shares.values())
        mixture = rounded_shares({name: share / weight for name, share in shares.items()})
        phases.append({"name": phase, "share_of_tokens": round(weight, 6), "mixture": mixture})
    return {**block, "phases": phases}
