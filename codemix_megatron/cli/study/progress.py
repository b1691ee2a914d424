"""A study's standing as a table that lives on a terminal, and as lines elsewhere."""

import sys
from collections import Counter
from typing import Any

from codemix_megatron.cli.study.tables import tree_lines
from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.report.wording import plural
from codemix_megatron.study.segments import Graph
from codemix_megatron.study.status import Standing
from codemix_megatron.study.tasks import BASE, SCORE

__all__ = ["LiveTable", "failed_bases", "say", "standing_table", "told_in_short"]

STYLES = {
    "done": "green",
    "running": "bold cyan",
    "queued": "cyan",
    "stopped": "yellow",
    "failed": "bold red",
    "blocked": "red",
    "waiting": "dim",
}
ORDER = tuple(STYLES)
STATE_WIDTH = max(map(len, STYLES))


def standing_table(graph: Graph, standings: dict[str, Standing]):
    """Return a table with a row for every segment, and below it what is to be said of some."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    has_scores = any(standing.score for standing in standings.values())
    table = Table("run", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("state", no_wrap=True, min_width=STATE_WIDTH)
    for heading in ("step", "tokens/s", "loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    if has_scores:
        table.add_column("scores", no_wrap=True, min_width=STATE_WIDTH)
    table.columns[0].no_wrap = True
    for guide, name in tree_lines(graph):
        s = standings[name]
        speed = format_tokens(round(s.tokens_per_second)) if s.tokens_per_second else ""
        loss = f"{s.loss:.3f}" if s.loss is not None else ""
        scores = [Text(s.score, style=STYLES.get(s.score, ""))] if has_scores else []
        done = f"{s.steps_done:,}/{s.steps:,}"
        table.add_row(f"{guide}{name}", Text(s.state, style=STYLES[s.state]), done, speed, loss, *scores)
    return Group(table, *(Text(f"{name}: {s.note}", style=note_style(s)) for name, s in standings.items() if s.note))


def note_style(standing: Standing) -> str:
    """Return red for what went wrong."""
    return "red" if "failed" in (standing.state, standing.score) or standing.state == "blocked" else "cyan"


def told_in_short(standings: dict[str, Standing]) -> str:
    """Return how many runs are in which state."""
    counts = Counter(standing.state for standing in standings.values())
    scores = Counter(standing.score for standing in standings.values() if standing.score)
    words = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    return f"{plural(len(standings), 'run')}: {words}" + (f"; {scores['done']} of {sum(scores.values())} scored" if scores else "")


def failed_bases(tasks: dict[str, dict]) -> list[str]:
    """Return a line for each public model that could not be scored, by study.json's tasks."""
    failed = {name: entry for name, entry in tasks.items() if name.startswith(BASE) and entry.get("state") == "failed"}
    return [
        f"{name.removeprefix(BASE).removesuffix(SCORE)}, from which runs start: not scored, {e.get('error')}" for name, e in failed.items()
    ]


def say(text: str) -> None:
    """Print a line of the study's own."""
    sys.stdout.write(f"▸ {text}\n")
    sys.stdout.flush()


class LiveTable:
    """Shows standings: redrawn in place on a terminal, elsewhere a line for each change."""

    def __init__(self, graph: Graph):
        from codemix_megatron.cli.consoles import Console

        self.graph = graph
        self.before: dict[str, tuple[str, str]] = {}
        self.console = Console()
        self.live: Any = None

    def __enter__(self) -> "LiveTable":
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(console=self.console, auto_refresh=False, vertical_overflow="ellipsis")
            self.live.start()
        return self

    def __exit__(self, *exception) -> None:
        if self.live:
            self.live.stop()

    def show(self, standings: dict[str, Standing]) -> None:
        """Show where all runs are now."""
        if self.live:
            self.live.update(standing_table(self.graph, standings), refresh=True)
            return
        if not self.before:  # what was done before is not news
            self.before = {name: (now.state, now.score) for name, now in standings.items() if now.state == "done"}
        for name, now in standings.items():
            before = self.before.get(name, ("waiting", "waiting"))
            for what, old, new in zip((name, f"scores of {name}"), before, (now.state, now.score), strict=True):
                if new != old and new not in ("", "waiting"):
                    self.print_change(what, new, now)
            self.before[name] = (now.state, now.score or "waiting")

    def print_change(self, what: str, state: str, now: Standing) -> None:
        """Print one change."""
        step = f" at step {now.steps_done} of {now.steps}" if state in ("stopped", "failed") and now.steps_done else ""
        loss = f", loss {now.loss:.3f}" if state == "done" and now.loss is not None and what == now.segment else ""
        note = f": {now.note}" if now.note and state in ("failed", "blocked") else ""
        sys.stdout.write(f"{what}: {state}{step}{loss}{note}\n")
        sys.stdout.flush()
