"""A run's journal as lines with a progress bar under them."""

import json
import sys

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from codemix_megatron.cli.consoles import Console
from codemix_megatron.plan.plan import Plan
from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.records.events import RunEvent, StartEvent, StepEvent, event_of
from codemix_megatron.records.journal_tail import JournalTail
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.console import ConsoleLines

__all__ = ["JournalProgress", "progress_bar"]


def progress_bar(unit: str = "") -> Progress:
    """Return a bar with counts and time left; where there is no terminal it draws nothing."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    console = Console()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def training_bar(drawn: bool = True) -> Progress:
    """Return the bar over a run's tokens: phase, tokens, speed, loss, time left; without a terminal it draws nothing."""
    texts = [TextColumn(f"{{task.fields[{name}]}}") for name in ("tokens", "speed", "loss")]
    console = Console()
    # The bar takes what the texts leave of the line, so that the time left is seen on 80 columns too.
    columns = [TextColumn("{task.description}"), BarColumn(bar_width=None), *texts, TimeRemainingColumn(), TextColumn("left")]
    return Progress(*columns, console=console, transient=True, expand=True, disable=not (drawn and console.is_terminal))


class JournalProgress:
    """Shows what one launch adds to journal.jsonl, from the start event that carries its name: as lines with a bar, or as the events themselves."""

    def __init__(self, run: RunFolder, plan: Plan, every_steps: int, launch: str, as_json: bool = False):
        self.tail, self.launch, self.as_json = JournalTail(run.journal), launch, as_json
        self.lines = ConsoleLines(every_steps, plan.steps)
        self.begun = False
        self.plan, whole = plan, plan.tokens_at(plan.steps)
        self.bar = training_bar(drawn=not as_json)
        self.task = self.bar.add_task("starting ranks", total=whole, tokens=format_tokens(whole), speed="", loss="")

    def __enter__(self) -> "JournalProgress":
        self.bar.start()
        return self

    def __exit__(self, *exception) -> None:
        self.bar.stop()

    def update(self) -> None:
        """Show the events that came since the last call."""
        for line in self.tail.new_lines():
            event = event_of(line)
            if isinstance(event, StartEvent) and event.launch == self.launch:
                self.begun = True
            if self.begun and self.as_json:
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
            elif self.begun:
                self.show(event)

    def show(self, event: RunEvent) -> None:
        """Print one event's line and move the bar."""
        line = self.lines.line(event)
        if line:
            self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        if isinstance(event, StartEvent):
            # From here on the clock counts, so that the time left is computed from the speed of this start.
            self.bar.reset(self.task, completed=self.plan.tokens_at(event.step), description="warming up")
        if isinstance(event, StepEvent):
            whole = self.bar.tasks[self.task].total
            self.bar.update(
                self.task,
                completed=event.tokens,
                description=event.phase,
                tokens=f"{format_tokens(event.tokens)} of {format_tokens(whole or 0)}",
                speed=f"{format_tokens(round(event.tokens_per_second))} tokens/s",
                loss=f"loss {event.loss:.3f}",
            )
