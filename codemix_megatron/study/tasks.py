"""What has to be done for a study, as commands: train every segment, score those where variants end."""

import sys
from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.recipe.pretrained import PREFIX
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.events import EndEvent
from codemix_megatron.records.journal import read_events
from codemix_megatron.records.run_folder import RunFolder, saved_step
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.segments import Graph

__all__ = ["BASE", "SCORE", "Task", "find_bases", "command_line", "is_done", "is_finished", "is_scored", "list_tasks"]

SCORE = "@score"
BASE = "@base-"  # before the name of a public model that runs start from: its scores lie beside the runs'


@dataclass(frozen=True)
class Task:
    """Commands that run one after another once the tasks in `needs` are done."""

    name: str
    segment: str
    needs: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]  # words after `codemix`
    recipe: Recipe
    phase_tokens: int = 0

    @property
    def is_training(self) -> bool:
        """Whether it trains; else it scores."""
        return not self.name.endswith(SCORE)

    @property
    def is_of_base(self) -> bool:
        """Whether it scores a public model as it was before any training here."""
        return self.segment.startswith(BASE)

    @property
    def ranks(self) -> int:
        """Ranks of the segment's layout."""
        return self.recipe.parallel.model_ranks * (self.recipe.parallel.data or 1)


def list_tasks(graph: Graph, folder: StudyFolder, with_scores: bool) -> dict[str, Task]:
    """Return all tasks by name, each after those it needs; a segment's scores come after it, before what is further down; bases last."""
    tasks = {}
    for name, segment in graph.segments.items():
        run = str(folder.run(name))
        needs = (segment.parent,) if segment.parent else ()
        train = (("train", str(folder.recipe(name)), "--folder", run),)
        tasks[name] = Task(name, name, needs, train, segment.recipe, segment.phase.tokens)
        if segment.ends and with_scores:
            tasks[name + SCORE] = Task(name + SCORE, name, (name,), (("export", run), ("evaluate", run)), segment.recipe)
    for base, (model, root) in find_bases(graph).items() if with_scores else ():
        scores = str(folder.run(base).scores)
        words = ("evaluate", str(model), "--corpora", str(folder.recipe(root)), "--output", scores)
        tasks[base + SCORE] = Task(base + SCORE, base, (), (words,), graph.segments[root].recipe)
    return tasks


def find_bases(graph: Graph) -> dict[str, tuple[Path, str]]:
    """Return name of a base -> (folder of the public model, a root segment that starts from it)."""
    found: dict[str, tuple[Path, str]] = {}
    for root in graph.children(None):
        start = root.recipe.initial_weights or ""
        if start.startswith(PREFIX):
            folder = Path(start.removeprefix(PREFIX))
            name, taken = f"{BASE}{folder.name}", {model: base for base, (model, _) in found.items()}
            if folder not in taken:
                found[name if name not in found else f"{name}-{len(found) + 1}"] = folder, root.name
    return found


def is_done(task: Task, folder: StudyFolder) -> bool:
    """Say whether nothing of a task is left to do, by what its run folder holds."""
    run = folder.run(task.segment)
    if task.is_of_base:
        return (run.scores / "scores.json").is_file()
    return is_finished(run) if task.is_training else is_scored(run)


def is_finished(run: RunFolder) -> bool:
    """Say whether a run has trained to its end."""
    events = read_events(run.journal)
    return bool(events) and isinstance(events[-1], EndEvent)


def is_scored(run: RunFolder) -> bool:
    """Say whether the newest export of a run has scores."""
    newest = run.latest_export()
    return newest is not None and run.score_file(saved_step(newest)).is_file()


def command_line(words: tuple[str, ...]) -> list[str]:
    """Return a codemix command as this interpreter runs it."""
    return [sys.executable, "-m", "codemix_megatron", *words]
