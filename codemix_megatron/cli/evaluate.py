"""codemix evaluate: score an export and print the scores."""

import math
import sys
from pathlib import Path

from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "print_scores", "run"]

EPILOG = """examples:
  codemix evaluate runs/demo                 the newest export
  codemix evaluate runs/demo@48              the export of step 48
  codemix evaluate runs/demo --force         again, although its scores are there
  codemix evaluate runs/demo --items 1000    more items than the recipe's evaluation.items, for smaller errors

Suites and tasks are those of the recipe's evaluation block. Nothing is downloaded. An accuracy counts as
distinguishable from chance when it is two standard errors away from it."""

TABLE_WIDTH = 110  # where the output is no terminal


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN[@STEP]", help="run folder; default: its newest export")
    parser.add_argument("--force", action="store_true", help="score again what has scores")
    parser.add_argument("--items", type=int, metavar="N", help="most items per task, instead of the recipe's; scores again")


def run(arguments) -> int:
    """Evaluate and print; progress goes to stderr, the tables to stdout."""
    from rich.console import Console

    if arguments.items is not None and arguments.items < 1:
        raise EvaluationError(f"--items: found {arguments.items}, must be at least 1")
    path, step = split_step(arguments.run_folder)
    folder = RunFolder.existing(path)
    from codemix_megatron.evaluate.run import evaluate_export

    notices = []
    with progress_bars(Console(file=sys.stderr)) as progress:
        scores = evaluate_export(folder, step, progress, arguments.force, items=arguments.items, notice=notices.append)
    print_scores(scores)
    for notice in notices:
        sys.stderr.write(f"not scored: {notice}\n")
    return 0


def split_step(text: str) -> tuple[str, int | None]:
    """Return run folder and step of RUN@STEP; a folder that is called like that comes first."""
    path, at, step = text.rpartition("@")
    if not at or Path(text).exists():
        return text, None
    if not step.isdigit():
        raise EvaluationError(f"{text}: {step!r} is not a step; write RUN@48")
    return path, int(step)


def progress_bars(console):
    """Return a context whose value takes (label, done, total) and keeps one bar for each label."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    @contextmanager
    def showing():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
            known = {}

            def update(label: str, done: int, total: int) -> None:
                if label not in known:
                    known[label] = bars.add_task(label, total=total)
                bars.update(known[label], completed=done, total=total)

            yield update

    return showing()


def print_scores(scores) -> None:
    """Print what was scored as tables."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    console.print(f"[bold]{scores.model}[/]: step {scores.step}, {scores.tokens} tokens trained on", highlight=False, soft_wrap=True)
    if scores.bits_per_byte:
        console.print(compression_table(scores.bits_per_byte))
    if scores.tasks:
        console.print(task_table(scores.tasks))


def compression_table(rows):
    """Return the table of bits per byte."""
    from rich.table import Table

    table = Table("corpus", "bits per byte", "documents", "tokens", "bytes", title="held-out text, lower is better", title_justify="left")
    right_align(table, 1)
    for row in rows:
        table.add_row(row.corpus, with_error(row.value, row.standard_error), str(row.documents), str(row.tokens), str(row.bytes))
    return table


def task_table(rows):
    """Return the table of task scores."""
    from rich.table import Table

    table = Table("task", "metric", "value", "items", "chance", "against chance", title="tasks", title_justify="left")
    right_align(table, 2, 5)
    for row in rows:
        chance = "" if row.chance is None else f"{row.chance:.3f}"
        table.add_row(row.task, row.metric, with_error(row.value, row.standard_error), str(row.items), chance, row.against_chance)
    return table


def right_align(table, start: int, stop: int | None = None) -> None:
    """Align columns of numbers."""
    for column in table.columns[start:stop]:
        column.justify = "right"


def with_error(value: float, error: float | None) -> str:
    """Return `1.234 ± 0.012`, or the value alone where no error is known."""
    return f"{value:.3f}" if error is None or math.isnan(error) else f"{value:.3f} ± {error:.3f}"
