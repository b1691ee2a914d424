"""The paper's filter: means over the tasks that all models are above chance in. A switch, for it chooses tasks by their scores."""

import math

from codemix_megatron.records.scores import TaskScore
from codemix_megatron.report.measures import Measure, parts_of
from codemix_megatron.report.run_data import RunData

__all__ = ["filtered_measures"]


def filtered_measures(runs: list[RunData]) -> list[tuple[Measure, list[str]]]:
    """Return the means of suites over the tasks that every scored run is above chance in, as the paper filters them, and the tasks left out.

    A mean of which no task is left is not there.
    """
    scored, found = [run for run in runs if run.scores], []
    for suite, name in dict.fromkeys((mean.suite, mean.name) for run in scored for mean in run.scores[-1].aggregates):
        tasks = parts_of(scored, suite, name)
        mains = [task for run in scored for known in tasks if (task := main_task(run, suite, known)) is not None]
        if not all(task.higher_is_better for task in mains):
            continue  # bits per byte know no chance
        kept = [task for task in tasks if all(is_above_chance(run, suite, task) for run in scored)]
        if kept:
            found.append(
                (mean_measure(f"{name.replace('_', ' ')} ({len(kept)} of {len(tasks)} above chance)", suite, kept), [*{*tasks} - {*kept}])
            )
    return found


def is_above_chance(run: RunData, suite: str, name: str) -> bool:
    """Say whether a run has scored a task above chance."""
    task = main_task(run, suite, name)
    return task is not None and task.against_chance in ("above chance", "")


def main_task(run: RunData, suite: str, name: str) -> TaskScore | None:
    """Return a task of a suite by its main metric."""
    return next((task for task in run.scores[-1].tasks if (task.suite, task.task) == (suite, name) and task.is_main), None)


def mean_measure(label: str, suite: str, names: list[str]) -> Measure:
    """Return the mean over the named tasks as a measure."""

    def tasks_in(run: RunData) -> list[TaskScore]:
        return [task for name in names if (task := main_task(run, suite, name)) is not None] if run.scores else []

    def find(run: RunData) -> tuple[float | None, float | None]:
        values = [task.value for task in tasks_in(run)]
        return (math.fsum(values) / len(values) if len(values) == len(names) else None), None

    return Measure(
        label=label,
        higher_is_better=True,
        in_points=True,
        find=find,
        difference=lambda run, base: None,
        content=lambda run: tuple((task.task, task.items, task.window) for task in tasks_in(run)),
        tasks=tuple(names),
    )
