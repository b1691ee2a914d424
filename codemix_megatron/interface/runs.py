"""Planning and training from Python: the functions behind the commands, and a run folder as an object."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codemix_megatron.errors import STOPPED_EARLY, LaunchError
from codemix_megatron.extras import require
from codemix_megatron.interface.frames import events_frame, scores_frame
from codemix_megatron.megatron.upstream_warnings import hide_upstream_warnings
from codemix_megatron.plan.devices import on_device
from codemix_megatron.plan.plan import Plan, find_corpora, make_plan
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import EndEvent, StepEvent
from codemix_megatron.records.journal import read_events, read_lines
from codemix_megatron.records.run_folder import RunFolder, saved_step
from codemix_megatron.records.scores import Scores
from codemix_megatron.study.tasks import command_line

if TYPE_CHECKING:
    import pandas

__all__ = ["Run", "plan_run", "train_run"]


def plan_run(
    recipe: str | Path | Recipe,
    *,
    sizes: Mapping[str, str | int] | None = None,
    vocab_size: int | None = None,
    nproc: int | None = None,
    device: str | None = None,
    mfu: float = 0.4,
) -> Plan:
    """Return every number of a run before it starts, from a recipe or its file.

    `sizes` are corpora that are not prepared yet, as training tokens ("200B" or a number). With `device` ("h100") the plan holds hours
    and what fits. Raises RecipeError or CorpusError as `codemix plan` does.
    """
    read = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    assumed = {name: parse_tokens(tokens) for name, tokens in (sizes or {}).items()}
    made = make_plan(read, find_corpora(read, assumed, vocab_size), nproc)
    return on_device(made, device, mfu) if device else made


def train_run(recipe: str | Path, folder: str | Path, *overrides: str, nproc: int | None = None) -> Run:
    """Train a recipe's file in a folder, on ranks of their own; resumes a run that is there. Returns the run, finished or saved.

    Raises LaunchError with the exit code of `codemix train` where it failed; what it printed stands on stderr.
    """
    words = ["train", str(recipe), "--folder", str(folder), *(["--nproc", str(nproc)] if nproc else []), *overrides]
    ended = subprocess.run(command_line(tuple(words)))
    if ended.returncode not in (0, STOPPED_EARLY):
        raise LaunchError(f"codemix {' '.join(words)}: exit code {ended.returncode}; the reason stands above", exit_code=ended.returncode)
    return Run(folder)


class Run:
    """A run folder: what was planned, what happened, its exports, its scores. Raises CodemixError for a folder that is none."""

    def __init__(self, folder: str | Path):
        self.files = RunFolder.existing(folder)

    def __repr__(self) -> str:
        return f"Run({str(self.files.path)!r}, step {self.step})"

    @property
    def recipe(self) -> Recipe:
        """The recipe it is trained with."""
        return read_run_recipe(self.files)

    @property
    def plan(self) -> dict[str, Any]:
        """Content of plan.json."""
        return json.loads(self.files.plan.read_text(encoding="utf-8"))

    @property
    def step(self) -> int:
        """The last step trained; 0 before the first."""
        return max((event.step for event in of_kind(read_events(self.files.journal), StepEvent)), default=0)

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end."""
        events = read_events(self.files.journal)
        return bool(events) and isinstance(events[-1], EndEvent)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the journal's events that still count, of one kind where asked; docs/journal.md lists kinds and fields."""
        return [line for line in read_lines(self.files.journal) if kind in (None, line["event"])]

    def steps(self) -> pandas.DataFrame:
        """Return a row per step: step, phase, tokens, loss (nats per token), loss_per_source.NAME, learning_rate, seconds, ..."""
        return events_frame(self.events("step"))

    def validations(self) -> pandas.DataFrame:
        """Return a row per look at the held-out documents: step, tokens, loss_per_source.NAME, bits_per_byte.NAME."""
        return events_frame(self.events("validation"))

    def export(self, step: int | None = None) -> Path:
        """Export a checkpoint (default: the newest) to Hugging Face and return the folder; one that is there is returned as it is.

        Raises ConversionError where logits or greedy tokens differ from those of the checkpoint.
        """
        hide_upstream_warnings()
        from codemix_megatron.conversion.export import export_run  # torch

        done = self.files.export(step) if step is not None else self.files.latest_export()
        if done is not None and (done / "export.json").is_file() and (step is not None or saved_step(done) == self.step):
            return done
        return export_run(self.files, step).folder

    def evaluate(self, step: int | None = None) -> Scores:
        """Score an export (default: the newest) with the recipe's suites; what was scored before is not scored again."""
        hide_upstream_warnings()
        from codemix_megatron.evaluate.scoring import evaluate_export

        return evaluate_export(self.files, step)

    def scores(self) -> pandas.DataFrame:
        """Return a row per scored step and measure; empty before anything was scored."""
        require("pandas", "a frame of records")
        import pandas

        read = [Scores.read(path) for path in self.files.scores.glob("step-*.json")]
        frames = [scores_frame(scores, step=scores.step) for scores in sorted(read, key=lambda of: of.step)]
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame()

    def report(self) -> Path:
        """Write the report and return the path of its page."""
        from codemix_megatron.report.run_report import write_report

        return write_report([self.files])
