"""What runs have measured, so that a column of the mixture table holds values of one kind: of the same documents or items, seen through one window."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from codemix_megatron.records.events import RunEvent, ValidationEvent
from codemix_megatron.records.journal import surviving
from codemix_megatron.records.run_folder import RunFolder, saved_step, step_of
from codemix_megatron.records.scores import Scores

__all__ = ["Found", "Measurements", "columns_of", "listed", "measurements_of"]

WHILE_TRAINING = "while training"
MOST_NAMES = 5

Found = dict[str, dict[Hashable, float]]  # metric -> what exactly was measured -> value


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What a run measured after one step. One metric may have been measured in two ways: by an evaluation, and while training."""

    step: int
    found: Found


def measurements_of(run: RunFolder, events: list[RunEvent]) -> Measurements | None:
    """Return the main scores of the newest evaluation, else the last held-out bits per byte while training; None where neither is there."""
    validations = surviving(events, ValidationEvent)
    files = sorted((p for p in run.scores.glob("step-*.json") if step_of(p.stem) is not None), key=lambda p: saved_step(p.stem))
    if not files and not validations:
        return None
    step = saved_step(files[-1].stem) if files else validations[-1].step
    found = scored(Scores.read(files[-1])) if files else {}
    for event in validations:
        if event.step == step:
            for corpus, value in event.bits_per_byte.items():
                if value is not None:
                    found.setdefault(f"{corpus} bits_per_byte", {})[WHILE_TRAINING] = value
    return Measurements(step=step, found=found)


def scored(scores: Scores) -> Found:
    """Return the main values of an evaluation, each under what it was measured on."""
    found: Found = {f"{b.corpus} bits_per_byte": {(b.documents, b.bytes, b.window): b.value} for b in scores.bits_per_byte}
    windows: dict[str, set[int | None]] = {}
    for task in scores.tasks:
        windows.setdefault(task.suite, set()).add(task.window)
    for mean in scores.aggregates:
        content = tuple(mean.parts), tuple(mean.missing), frozenset(windows.get(mean.suite, ()))
        found[f"{mean.suite} {mean.name}"] = {content: mean.value}
    return found | {f"{task.task} {task.metric}": {(task.items, task.window): task.value} for task in scores.tasks if task.is_main}


def columns_of(names: list[str], rows: list[Found]) -> tuple[dict[str, list[float]], list[str]]:
    """Return metric -> a value for each run, and notes. NaN stands for runs that measured something else than most of them did."""
    columns, notes = {}, []
    for metric in dict.fromkeys(metric for row in rows for metric in row):
        there = Counter(content for row in rows for content in row.get(metric, {}))
        chosen = max(there, key=lambda content: there[content])  # the first of those that as many runs have: an evaluation's
        columns[metric] = [row.get(metric, {}).get(chosen, np.nan) for row in rows]
        others = [name for name, row in zip(names, rows, strict=True) if metric in row and chosen not in row[metric]]
        if others:
            notes.append(
                f"{metric}: {len(others)} of {len(rows)} runs measured it on other documents or items, or with another window, and are left out"
                f" of its law: {listed(others)}; evaluate all alike"
            )
        elif chosen == WHILE_TRAINING and len(there) > 1:
            evaluated = sum(len(row.get(metric, {})) > 1 for row in rows)
            notes.append(f"{metric}: {evaluated} of {len(rows)} runs are evaluated; what all measured while training is taken")
    return columns, notes


def listed(names: Sequence[str]) -> str:
    """Return some names and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
