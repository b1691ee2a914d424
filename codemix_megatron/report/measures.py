"""What runs of a study are compared by: means of suites, tasks, held-out bits per byte; each as one number of a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from codemix_megatron.analysis.comparing import Difference
from codemix_megatron.records.scores import AggregateScore, BitsPerByte, TaskScore
from codemix_megatron.report.differences import (
    difference_in_aggregate,
    difference_in_bits,
    difference_in_task,
    find_aggregate,
    find_bits,
    find_task,
)
from codemix_megatron.report.held_out import series
from codemix_megatron.report.run_data import RunData

__all__ = ["Measure", "every_measure", "parts_of", "study_measures", "task_measures", "training_measure"]

PAPER_KEYS = {"reasoning": "reason", "knowledge": "know", "code": "code"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """One column of a study's tables.

    `find` gives a run's value and item error, `difference` how far two runs are apart on their items, `content` what exactly was
    measured: runs for which it differs are not compared. Scores between 0 and 1 are shown in points of 100.
    """

    label: str
    higher_is_better: bool
    in_points: bool
    find: Callable[[RunData], tuple[float | None, float | None]]
    difference: Callable[[RunData, RunData], Difference | None]
    content: Callable[[RunData], object]
    tasks: tuple[str, ...] = ()
    chance: float | None = None
    paper_key: str | None = None
    suite: str = ""

    @property
    def scale(self) -> float:
        """What a value is multiplied by when it is shown."""
        return 100.0 if self.in_points else 1.0

    @property
    def digits(self) -> int:
        """Decimals shown."""
        return 1 if self.in_points else 3

    @property
    def unit(self) -> str:
        """What differences are counted in."""
        return "points" if self.in_points else "bits per byte"

    def value(self, run: RunData) -> float | None:
        """Return a run's value; NaN is no value."""
        value, _ = self.find(run)
        return None if value is None or math.isnan(value) else value


def study_measures(runs: list[RunData]) -> list[Measure]:
    """Return what stands for a whole study: bits per byte of each source, which need fewest seeds, then means of suites."""
    scored = [run for run in runs if run.scores]
    sources = list(dict.fromkeys(b.corpus for run in scored for b in run.scores[-1].bits_per_byte))
    means = dict.fromkeys((mean.suite, mean.name) for run in scored for mean in run.scores[-1].aggregates)
    found = [bits_measure(source) for source in sources] + [aggregate_measure(suite, name, scored) for suite, name in means]
    return found or task_measures(runs)


def every_measure(runs: list[RunData]) -> list[Measure]:
    """Return bits per byte of each source and every metric of every task."""
    sources = dict.fromkeys(b.corpus for run in runs if run.scores for b in run.scores[-1].bits_per_byte)
    return [bits_measure(source) for source in sources] + task_measures(runs, main_only=False)


def task_measures(runs: list[RunData], main_only: bool = True) -> list[Measure]:
    """Return every task, by its main metric or by all."""
    tasks: dict = {}
    for run in runs:
        for task in run.scores[-1].tasks if run.scores else []:
            if task.is_main or not main_only:
                tasks.setdefault((task.task, task.metric), task)
    return [task_measure(task) for task in tasks.values()]


def bits_measure(source: str) -> Measure:
    """Return held-out bits per byte of one source as a measure."""

    def content(run: RunData):
        found = find_bits(run, source)
        return found and (found.documents, found.bytes, found.window)

    return Measure(
        label=f"{source}, bits per byte",
        higher_is_better=False,
        in_points=False,
        find=lambda run: value_of(find_bits(run, source)),
        difference=lambda run, base: difference_in_bits(run, base, source),
        content=content,
    )


def training_measure(source: str) -> Measure:
    """Return the last held-out bits per byte of one source that were measured while training."""

    def content(run: RunData):
        return run.sequence_length, run.recipe.evaluation.held_out_sequences if run.recipe else None

    return Measure(
        label=source,
        higher_is_better=False,
        in_points=False,
        find=lambda run: (values[-1] if (values := series(run, source)[1]) else None, None),
        difference=lambda run, base: None,
        content=content,
    )


def task_measure(task: TaskScore) -> Measure:
    """Return one metric of one task as a measure."""
    key = (task.task, task.metric)

    def content(run: RunData):
        found = find_task(run, key)
        return found and (found.items, found.window)

    return Measure(
        label=f"{task.task} {task.metric}",
        higher_is_better=task.higher_is_better,
        in_points=task.higher_is_better,
        find=lambda run: value_of(find_task(run, key)),
        difference=lambda run, base: difference_in_task(run, base, key),
        content=content,
        tasks=(task.task,) if task.metric == "acc" else (),
        chance=task.floor,
        suite=task.suite,
    )


def aggregate_measure(suite: str, name: str, runs: list[RunData]) -> Measure:
    """Return a mean over tasks as a measure. Where some run lacks tasks the label says how many it is over, and the paper's mean,
    which is over all, does not stand beside it."""
    means = [mean for run in runs if (mean := find_aggregate(run, suite, name))]
    fewest = min(means, key=lambda mean: len(mean.parts))
    tasks = [task for run in runs for task in run.scores[-1].tasks if task.suite == suite and task.is_main]
    higher = all(task.higher_is_better for task in tasks)
    mean_of = parts_of(runs, suite, name)
    known = {task.task: task for task in tasks}
    chances = [known[part].floor for part in mean_of if part in known]

    def content(run: RunData):
        found = find_aggregate(run, suite, name)
        windows = {task.window for task in run.scores[-1].tasks if task.suite == suite and task.task in mean_of} if found else set()
        return found and (tuple(found.parts), tuple(found.missing), tuple(sorted(windows, key=str)))

    partial = f" ({len(fewest.parts)} of {len(fewest.parts) + len(fewest.missing)})" if fewest.missing else ""
    return Measure(
        label=f"{name.replace('_', ' ')}{partial}{'' if suite == 'paper' else f', {suite}'}",
        higher_is_better=higher,
        in_points=higher,
        find=lambda run: value_of(find_aggregate(run, suite, name)),
        difference=lambda run, base: difference_in_aggregate(run, base, suite, name),
        content=content,
        tasks=tuple(mean_of) if all(known[part].metric == "acc" for part in mean_of if part in known) else (),
        chance=mean_of_known(chances),
        paper_key=PAPER_KEYS.get(name) if suite == "paper" and not fewest.missing else None,
    )


def mean_of_known(values: list[float | None]) -> float | None:
    """Return the mean, None where a value is not known."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def parts_of(runs: list[RunData], suite: str, name: str) -> list[str]:
    """Return the tasks below a mean, those of the means in it included."""
    mean = next((mean for run in runs if (mean := find_aggregate(run, suite, name))), None)
    return [name] if mean is None else [task for part in mean.parts for task in parts_of(runs, suite, part)]


def value_of(found: BitsPerByte | TaskScore | AggregateScore | None) -> tuple[float | None, float | None]:
    """Return value and standard error."""
    return (found.value, found.standard_error) if found else (None, None)
