"""A run is one folder; this file alone knows what is called what inside it.

RUN/recipe.yaml            the resolved recipe
    plan.json              what was planned from it
    recipes/               every recipe it was trained with: from-step-N.yaml held from step N on
    corpora.json           files of corpora that were found to be as prepared
    environment.json       versions, git hash, command, machine
    journal.jsonl          what happened
    initial/               checkpoint converted from a public model, when the recipe starts from one
    tokenizer/             what came with that model beside its weights: tokenizer, generation settings, licence
    checkpoints/step-N/    Megatron distributed checkpoints, each with card.json written last
    exports/step-N/        Hugging Face folder, with export.json (parity figures) written last
    scores/step-N.json     scores of that export
    report/index.html      the report, with index.md and figures beside it
    trackers/              tensorboard and wandb files
    logs/                  rank-N.log: output of each rank; failures/: what made ranks fail; stacks of hung ones
    launch/                Slurm: script, environment and recipe of the job, attempts.jsonl, the job's log
    profiles/steps-A-B/    traces and memory snapshots of each rank, when asked for
    .lease/                held by the start that trains in it, and names it
    stop                   present: stop after this step, save and leave
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codemix_megatron.errors import CodemixError, LaunchError

__all__ = ["CHECKPOINT_METADATA", "RunFolder", "is_run_folder", "saved_step", "step_of"]

CHECKPOINT_METADATA = "card.json"  # in a checkpoint, written last
STEP_NAME = re.compile(r"^step-(\d+)$")


class RunFolder:
    """Paths of one run."""

    def __init__(self, path):
        self.path = Path(path).absolute()
        self.recipe = self.path / "recipe.yaml"
        self.plan = self.path / "plan.json"
        self.recipes = self.path / "recipes"
        self.corpora = self.path / "corpora.json"
        self.environment = self.path / "environment.json"
        self.journal = self.path / "journal.jsonl"
        self.initial = self.path / "initial"
        self.tokenizer = self.path / "tokenizer"
        self.checkpoints = self.path / "checkpoints"
        self.exports = self.path / "exports"
        self.scores = self.path / "scores"
        self.report = self.path / "report"
        self.trackers = self.path / "trackers"
        self.logs = self.path / "logs"
        self.launch = self.path / "launch"
        self.stop = self.path / "stop"

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def existing(cls, path) -> "RunFolder":
        """Return the run folder at `path`, or raise naming what is missing."""
        folder = cls(path)
        if not is_run_folder(folder):
            raise CodemixError(
                f"{folder}: not a run folder (no recipe.yaml and environment.json in it); give the folder `codemix train` made"
            )
        return folder

    def make(self, part: Path) -> None:
        """Make a folder of the run, and the run's own with it; raises LaunchError where the system refuses."""
        with self.naming_refusals():
            part.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def naming_refusals(self) -> Iterator[None]:
        """Raise LaunchError, which says what to do, when the system refuses to write into the run's folder."""
        try:
            yield
        except OSError as fault:
            raise LaunchError(f"{self}: cannot be made ({str(fault.strerror).lower()}); give another --folder", exit_code=2) from None

    def checkpoint(self, step: int) -> Path:
        """Return the folder of one checkpoint."""
        return self.checkpoints / f"step-{step}"

    def export(self, step: int) -> Path:
        """Return the folder of one Hugging Face export."""
        return self.exports / f"step-{step}"

    def score_file(self, step: int) -> Path:
        """Return the scores file of one export."""
        return self.scores / f"step-{step}.json"

    def latest_export(self) -> Path | None:
        """Return the newest finished export, or None."""
        done = [p for p in self.exports.glob("step-*") if step_of(p) is not None and (p / "export.json").is_file()]
        return max(done, key=saved_step, default=None)


def is_run_folder(folder: RunFolder) -> bool:
    """Say whether a run has begun there; a recipe alone may be a user's own."""
    return folder.recipe.is_file() and folder.environment.is_file()


def saved_step(path) -> int:
    """Return N of a path that is known to be named step-N."""
    step = step_of(path)
    assert step is not None, path
    return step


def step_of(path) -> int | None:
    """Return N of a path named step-N, else None."""
    match = STEP_NAME.match(Path(path).name)
    return int(match.group(1)) if match else None
