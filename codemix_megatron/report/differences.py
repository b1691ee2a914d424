"""How far two runs are apart on one score: on the items both have answered where those are kept, else by standard errors."""

import math
from functools import lru_cache
from pathlib import Path

from codemix_megatron.analysis.comparing import Difference, compare_apart, compare_paired, compare_paired_ratio
from codemix_megatron.records.item_scores import ItemScores, shared_items
from codemix_megatron.records.scores import AggregateScore, BitsPerByte, TaskScore
from codemix_megatron.report.run_data import RunData

__all__ = ["find_aggregate", "find_bits", "find_task", "difference_in_aggregate", "difference_in_bits", "difference_in_task"]


def find_bits(run: RunData, source: str) -> BitsPerByte | None:
    """Return held-out bits per byte of the newest scores."""
    return next((b for b in run.scores[-1].bits_per_byte if b.corpus == source), None) if run.scores else None


def find_task(run: RunData, key: tuple[str, str]) -> TaskScore | None:
    """Return one (task, metric) of the newest scores."""
    return next((t for t in run.scores[-1].tasks if (t.task, t.metric) == key), None) if run.scores else None


def find_aggregate(run: RunData, suite: str, name: str) -> AggregateScore | None:
    """Return one mean of the newest scores."""
    return next((a for a in run.scores[-1].aggregates if (a.suite, a.name) == (suite, name)), None) if run.scores else None


def difference_in_bits(run: RunData, base: RunData, source: str) -> Difference | None:
    """Return how many bits per byte one run is above another."""
    ours, theirs = find_bits(run, source), find_bits(base, source)
    if ours is None or theirs is None:
        return None
    first, second = items_of(run, ours.item_file), items_of(base, theirs.item_file)
    if first is None or second is None:
        return compare_apart(ours.value, ours.standard_error, theirs.value, theirs.standard_error)
    mine, yours = shared_items(first, second)
    if len(mine) < 2:
        return compare_apart(ours.value, ours.standard_error, theirs.value, theirs.standard_error)
    return compare_paired_ratio(values_at(first, "bits", mine), values_at(second, "bits", yours), values_at(first, "bytes", mine))


def difference_in_task(run: RunData, base: RunData, key: tuple[str, str]) -> Difference | None:
    """Return how far one run is above another in one task's metric."""
    ours, theirs = find_task(run, key), find_task(base, key)
    if ours is None or theirs is None:
        return None
    pair = paired_values(run, ours, base, theirs)
    if pair is None:
        return compare_apart(ours.value, ours.standard_error, theirs.value, theirs.standard_error)
    return compare_paired(*pair)


def difference_in_aggregate(run: RunData, base: RunData, suite: str, name: str) -> Difference | None:
    """Return how far one run is above another in a mean over tasks; None unless both average the same tasks.

    Paired within tasks where items are kept: the error is that of the mean of the tasks' differences.
    """
    ours, theirs = find_aggregate(run, suite, name), find_aggregate(base, suite, name)
    if ours is None or theirs is None or (ours.parts, ours.missing) != (theirs.parts, theirs.missing):
        return None
    error = aggregate_error(run, base, suite, ours)
    value = ours.value - theirs.value
    if error is None:
        return compare_apart(ours.value, ours.standard_error, theirs.value, theirs.standard_error)
    return Difference(value=value, standard_error=error, low=value - 1.96 * error, high=value + 1.96 * error, items=0)


def aggregate_error(run: RunData, base: RunData, suite: str, aggregate: AggregateScore) -> float | None:
    """Return the standard error of a mean's difference from those of its parts, None where one is not known."""
    errors = []
    for part in aggregate.parts:
        inner = find_aggregate(run, suite, part)
        if inner is not None:
            errors.append(aggregate_error(run, base, suite, inner))
            continue
        task = next((t for t in run.scores[-1].tasks if (t.suite, t.task) == (suite, part) and t.is_main), None)
        difference = difference_in_task(run, base, (part, task.metric)) if task else None
        errors.append(difference.standard_error if difference else None)
    known = [error for error in errors if error is not None]
    return math.sqrt(math.fsum(e**2 for e in known)) / len(known) if len(known) == len(errors) else None


def paired_values(run: RunData, ours: TaskScore, base: RunData, theirs: TaskScore) -> tuple[list[float], list[float]] | None:
    """Return the values of the items both runs have answered, None where they are not kept or fewer than two."""
    first, second = items_of(run, ours.item_file), items_of(base, theirs.item_file)
    if first is None or second is None:
        return None
    mine, yours = shared_items(first, second)
    if len(mine) < 2:
        return None
    return values_at(first, ours.metric, mine), values_at(second, theirs.metric, yours)


def values_at(items: ItemScores, metric: str, rows: list[int]) -> list[float]:
    """Return a metric's values of some items."""
    values = items.metrics[metric].values or []
    return [values[i] for i in rows]


def items_of(run: RunData, name: str | None) -> ItemScores | None:
    """Return the kept items of one task, None where there are none."""
    path = run.folder.scores / "items" / name if name else None
    return read_items(path) if path is not None and path.is_file() else None


@lru_cache(256)
def read_items(path: Path) -> ItemScores:
    """Read an items file once."""
    return ItemScores.read(path)
