"""ItemStore: what was scored before and need not be again, and how items become the scores of a report."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from codemix_megatron.analysis.estimates import estimate_mean
from codemix_megatron.records.item_scores import ItemScores, item_file
from codemix_megatron.records.scores import TaskScore

__all__ = ["ItemStore", "task_scores"]


class ItemStore:
    """Items of tasks under one folder, by task and digest; each is written when its task is done, so an evaluation resumes there."""

    def __init__(self, folder, *, force: bool = False, writes: bool = True):
        self.folder, self.force, self.writes = Path(folder), force, writes

    def knows(self, task: str, digest: str) -> bool:
        """Say whether a task need not be scored."""
        return not self.force and item_file(self.folder, task, digest).is_file()

    def get(self, task: str, digest: str) -> tuple[ItemScores, str]:
        """Return the items that `knows` has said are there, and the name of their file."""
        path = item_file(self.folder, task, digest)
        return ItemScores.read(path), path.name

    def get_or_score(self, task: str, digest: str, score: Callable[[], ItemScores]) -> tuple[ItemScores, str]:
        """Return the items and the name of their file; `score` is called when they are not there or `force` is set."""
        return self.get(task, digest) if self.knows(task, digest) else self.keep(task, digest, score())

    def keep(self, task: str, digest: str, items: ItemScores) -> tuple[ItemScores, str]:
        """Write items under their digest; return them and the name of their file."""
        path = item_file(self.folder, task, digest)
        items = replace(items, about={**items.about, "digest": digest})
        if self.writes:
            items.write(path)
        return items, path.name


def task_scores(items: ItemScores, name: str | None = None, *, suite: str, group: str = "", main: str | None = None) -> list[TaskScore]:
    """Return one score per metric, with standard error and bootstrap interval over the items.

    `name` is the file the items are in; `main` the metric that stands for the task (default: all do).
    """
    scores = []
    for metric, found in items.metrics.items():
        estimate = estimate_mean(found.values) if found.values else None
        scores.append(
            TaskScore(
                suite=suite,
                task=items.task,
                metric=metric,
                value=found.value,
                standard_error=found.standard_error,
                items=len(items.keys),
                chance=items.chance.get(metric),
                majority=items.majority.get(metric),
                cut=items.cut,
                window=items.window,
                low=estimate.low if estimate else None,
                high=estimate.high if estimate else None,
                group=group,
                higher_is_better=found.higher_is_better,
                is_main=main in (None, metric),
                item_file=name if found.values else None,
            )
        )
    return scores
