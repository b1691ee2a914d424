"""What `codemix swarm` prints."""

import sys
from typing import Any

import numpy as np

from codemix_megatron.recipe.quantity import format_tokens

__all__ = ["print_learned", "print_round", "say"]


def say(text: str) -> None:
    """Print a line of the swarm's own."""
    sys.stdout.write(f"▸ {text}\n")
    sys.stdout.flush()


def print_round(space, runs) -> None:
    """Print the mixtures of a round and the tokens they take."""
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    names = [f"{phase}: {domain}" for phase in space.phases for domain in space.domains]
    shown = Table("run", "seed", *names, title=f"{len(runs)} runs", title_justify="left")
    for run in runs:
        shown.add_row(run.name, str(run.seed), *(f"{share:.3f}" for part in run.shares for share in part))
    Console(width=None if sys.stdout.isatty() else 150).print(shown)
    tokens, alone = round_tokens(space, runs), len(runs) * space.run_tokens
    say(f"{format_tokens(tokens)} tokens in the phases that vary; each run alone: {format_tokens(alone)}")


def round_tokens(space, runs) -> int:
    """Return the tokens of the phases that vary, what several runs share counted once."""
    segments: dict[tuple, float] = {}
    for run in runs:
        for i, weight in enumerate(space.weights):
            segments[(run.seed, *(round(share, 6) for part in run.shares[: i + 1] for share in part))] = weight * space.run_tokens
    return round(sum(segments.values()))


def print_learned(learned, state: dict[str, Any]) -> None:
    """Print errors, what became of the predictions, and the mixtures to try next."""
    from codemix_megatron.cli.law_output import print_errors, print_proposals

    print_errors(learned.table, learned.fits)
    for note in learned.notes:
        sys.stderr.write(f"note: {note}\n")
    print_compared(state["rounds"][-1])
    if learned.proposals:
        print_proposals(learned.proposals, list(learned.fits))


def print_compared(entry: dict[str, Any]) -> None:
    """Print what was predicted of a round's runs before they were trained, beside what was measured."""
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    rows = entry.get("compared") or []
    if not rows:
        return
    title = f"round {entry['number']}: predicted before it was trained, and measured"
    shown = Table("run", "objective", "predicted", "90 % interval", "measured", "", title=title, title_justify="left")
    for row in rows:
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        verdict = "within" if row["within"] else "outside"
        shown.add_row(row["run"], row["objective"], f"{row['predicted']:.4f}", interval, f"{row['measured']:.4f}", verdict)
    Console(width=None if sys.stdout.isatty() else 130).print(shown)
    say(f"within their intervals: {sum(row['within'] for row in rows)} of {len(rows)}")
    for metric, errors in entry["out_of_sample"].items():
        said = ", ".join(f"over {view} {error:.4f}" for view, error in errors.items())
        spread = float(np.std([row["measured"] for row in rows if row["objective"] == metric]))
        say(f"{metric}: error on this round's mixtures, none of them seen: {said} (spread {spread:.4f})")
