"""A begun study is one folder; this file alone knows what is called what inside it, and what study.json holds.

DIR/study.json        what was asked for and how far each task came
    study.lock        held by the one `codemix study run` that works here
    recipes/NAME.yaml the recipe of each segment, resolved
    runs/NAME/        the run folder of each segment; where a variant ends, NAME is the variant's
    logs/TASK.log     what its commands said; a task is NAME (training) or NAME@score
    report/           the report over all variants
"""

import fcntl
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codemix_megatron.errors import CodemixError
from codemix_megatron.recipe.reading import write_recipe
from codemix_megatron.records.atomic import read_json, replace_text, write_json
from codemix_megatron.records.run_folder import RunFolder, is_run_folder
from codemix_megatron.study.schema import Study
from codemix_megatron.study.segments import Graph, segment_recipe

__all__ = ["StudyFolder", "open_study"]

VERSION = 1
LOCK_TRIES = 5


class StudyFolder:
    """Paths of one study, and its state."""

    def __init__(self, path):
        self.path = Path(path).absolute()
        self.state = self.path / "study.json"
        self.lock = self.path / "study.lock"
        self.recipes, self.runs, self.logs, self.report = (self.path / name for name in ("recipes", "runs", "logs", "report"))

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def existing(cls, path) -> "StudyFolder":
        """Return the begun study at `path`, or raise naming what is missing."""
        folder = cls(path)
        if not folder.state.is_file():
            raise CodemixError(f"{folder}: not a begun study (no study.json in it); give the folder that `codemix study run` made")
        return folder

    def run(self, segment: str) -> RunFolder:
        """Return the run folder of a segment."""
        return RunFolder(self.runs / segment)

    def recipe(self, segment: str) -> Path:
        """Return the recipe file of a segment."""
        return self.recipes / f"{segment}.yaml"

    def log(self, task: str) -> Path:
        """Return where a task's output goes."""
        return self.logs / f"{task}.log"

    def read(self) -> dict:
        """Return study.json's content."""
        try:
            return read_json(self.state)
        except (OSError, ValueError) as fault:
            raise CodemixError(f"{self.state}: cannot be read ({fault}); fix it, or begin in another --directory") from None

    def write(self, state: dict) -> None:
        """Write study.json."""
        write_json(self.state, state)

    @contextmanager
    def held(self):
        """Hold the study's lock; raises CodemixError when another process works on it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.lock, "a+", encoding="utf-8") as handle:
            for tries_left in range(LOCK_TRIES - 1, -1, -1):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if not tries_left:
                        who = f"process {self.holder()} works on this study already"
                        raise CodemixError(f"{self}: {who}; wait for it, or codemix study cancel {self}") from None
                    time.sleep(0.1)  # a look by `status` holds it for a moment
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield

    def holder(self) -> int | None:
        """Return the process that works on the study, or None."""
        try:
            with open(self.lock, encoding="utf-8") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return int(handle.read() or 0)
        except (FileNotFoundError, ValueError):
            pass
        return None


def open_study(folder: StudyFolder, study: Study, graph: Graph) -> dict:
    """Write the recipes of segments that have not begun, and study.json; return its content. What begun segments did stays."""
    before: dict[str, Any] = folder.read() if folder.state.is_file() else {"version": VERSION, "tasks": {}}
    for name, segment in graph.segments.items():
        if not is_run_folder(folder.run(name)):
            replace_text(folder.recipe(name), write_recipe(segment_recipe(segment, folder.runs)))
    known = {name: described for name, described in before.get("segments", {}).items() if is_run_folder(folder.run(name))}
    described = {name: {"phase": s.phase.name, "parent": s.parent, "ends": list(s.ends)} for name, s in graph.segments.items()}
    state = {
        **before,
        "name": study.name,
        "study": str(study.path),
        "variants": {name: list(path) for name, path in graph.paths.items()},
        "arms": {variant.name: {"variant": variant.variant, "points": variant.points} for variant in study.variants},
        "segments": {**known, **described},
    }
    folder.write(state)
    return state
