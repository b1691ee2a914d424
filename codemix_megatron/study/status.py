"""How far every segment of a study is: from its journal, what its last task said, and whether somebody works on it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from codemix_megatron.mixture.budget import plan_batches
from codemix_megatron.records.events import EndEvent, RunEvent, StartEvent, StepEvent, StopEvent, event_of
from codemix_megatron.records.run_folder import is_run_folder
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.segments import Graph
from codemix_megatron.study.tasks import SCORE, is_scored

__all__ = ["Standing", "find_standings"]

TAIL_BYTES = 1 << 16
WORKING = ("running", "queued")


@dataclass(frozen=True)
class Standing:
    """One segment now. `state`: done, running, queued, stopped, failed, blocked (its parent failed) or waiting."""

    segment: str
    state: str
    steps_done: int
    steps: int
    tokens_per_second: float | None = None
    loss: float | None = None
    score: str = ""  # the same words; empty where nothing is to be scored
    note: str = ""


def find_standings(
    graph: Graph, folder: StudyFolder, tasks: dict[str, dict], with_scores: bool, working: Callable[[str], bool]
) -> dict[str, Standing]:
    """Return segment -> standing. `tasks` is that of study.json; `working` says whether a task really is under way."""
    found: dict[str, Standing] = {}
    ends: dict[str | None, tuple[int, int]] = {}  # step and position
    for name, segment in graph.segments.items():
        first, position = ends.get(segment.parent, (0, 0))
        runs = plan_batches(segment.recipe.batch.stages, position, segment.phase.tokens, segment.recipe.model.sequence_length)
        steps = sum(count for count, _ in runs)
        ends[name] = first + steps, position + sum(count * size for count, size in runs)
        last = read_tail(folder.run(name).journal) if is_run_folder(folder.run(name)) else Tail()
        state, note = state_of(name, isinstance(last.status, EndEvent), found.get(segment.parent or ""), tasks, working)
        found[name] = Standing(
            segment=name,
            state=state,
            steps_done=max(0, last.step.step - first) if last.step else 0,
            steps=steps,
            tokens_per_second=last.step.tokens_per_second if last.step else None,
            loss=last.step.loss if last.step else None,
            score=score_of(name, state, folder, tasks, working) if with_scores and segment.ends else "",
            note=note or score_note(name, tasks),
        )
    return found


def state_of(name: str, is_done: bool, parent: Standing | None, tasks: dict, working) -> tuple[str, str]:
    """Return a segment's state and what is to be said of it."""
    task = tasks.get(name, {})
    if is_done:
        return "done", ""
    if task.get("state") in WORKING and working(name):
        return task["state"], task.get("reason", "")
    if task.get("state") == "failed":
        return "failed", task.get("error", "")
    if parent is not None and parent.state in ("failed", "blocked"):
        return "blocked", f"{parent.segment} failed" if parent.state == "failed" else parent.note
    if task.get("state") in (*WORKING, "stopped", "cancelled"):
        return "stopped", ""
    return "waiting", ""


def score_of(name: str, state: str, folder: StudyFolder, tasks: dict, working) -> str:
    """Return how far the scores of a segment are."""
    task = tasks.get(name + SCORE, {})
    if state != "done":
        return "waiting"
    if is_scored(folder.run(name)):
        return "done"
    if task.get("state") in WORKING and working(name + SCORE):
        return task["state"]
    return "failed" if task.get("state") == "failed" else "waiting"


def score_note(name: str, tasks: dict) -> str:
    """Return why scores failed."""
    task = tasks.get(name + SCORE, {})
    return f"scores: {task.get('error', '')}" if task.get("state") == "failed" else ""


@dataclass(frozen=True)
class Tail:
    """The last step of a journal, and the last of its start, stop and end events."""

    step: StepEvent | None = None
    status: RunEvent | None = None


def read_tail(path: Path) -> Tail:
    """Read a journal from its end, as far back as is needed; None where its last 64 KiB hold no such event."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = handle.read().split(b"\n")
    except FileNotFoundError:
        return Tail()
    found = Tail()
    for line in reversed(lines):
        try:
            event = event_of(json.loads(line))
        except ValueError:
            continue  # cut off by the window, or being written
        if isinstance(event, StepEvent):
            found = replace(found, step=found.step or event)
        elif isinstance(event, StartEvent | StopEvent | EndEvent):
            found = replace(found, status=found.status or event)
        if found.step and found.status:
            break
    return found
