"""Scores of a model as tables on the terminal."""

import math

from codemix_megatron.printable import printable

__all__ = ["print_scores"]

TABLE_WIDTH = 110  # where the output is no terminal


def print_scores(scores) -> None:
    """Print what was scored as tables."""
    from rich.text import Text

    from codemix_megatron.cli.consoles import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_WIDTH)
    trained = f": step {scores.step}, {scores.tokens} tokens trained on" if scores.tokens else ""
    console.print(Text.assemble((printable(str(scores.model)), "bold"), trained), soft_wrap=True)
    if scores.bits_per_byte:
        console.print(compression_table(scores.bits_per_byte))
    if scores.tasks:
        console.print(task_table(scores.tasks))
    if scores.aggregates:
        console.print(aggregate_table(scores.aggregates))
    if any(task.contaminated for task in scores.tasks):
        console.print(contamination_table(scores.tasks))
    elif any(task.contaminated == 0 for task in scores.tasks):
        console.print("no item overlaps the training corpora", highlight=False)


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
        chance = "" if row.floor is None else f"{row.floor:.3f}"
        items = f"{row.items} ({row.cut} cut)" if row.cut else str(row.items)
        table.add_row(row.task, row.metric, with_error(row.value, row.standard_error), items, chance, row.against_chance)
    return table


def contamination_table(rows):
    """Return the table of scores with and without items that overlap the training corpora."""
    from rich.table import Table

    table = Table("task", "metric", "overlapping", "all items", "without them", title="items that were trained on", title_justify="left")
    right_align(table, 2)
    for row in rows:
        if row.contaminated:
            clean = "none is left" if row.clean_value is None else with_error(row.clean_value, row.clean_standard_error)
            table.add_row(row.task, row.metric, f"{row.contaminated} of {row.items}", with_error(row.value, row.standard_error), clean)
    return table


def aggregate_table(rows):
    """Return the table of means over tasks."""
    from rich.table import Table

    table = Table("suite", "mean", "value", "over", "not scored", title="means", title_justify="left")
    right_align(table, 2, 3)
    for row in rows:
        table.add_row(row.suite, row.name, with_error(row.value, row.standard_error), ", ".join(row.parts), ", ".join(row.missing))
    return table


def right_align(table, start: int, stop: int | None = None) -> None:
    """Align columns of numbers."""
    for column in table.columns[start:stop]:
        column.justify = "right"


def with_error(value: float, error: float | None) -> str:
    """Return `1.234 ± 0.012`, or the value alone where no error is known."""
    return f"{value:.3f}" if error is None or math.isnan(error) else f"{value:.3f} ± {error:.3f}"
