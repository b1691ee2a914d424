"""Where events go: journal, console, tensorboard, wandb. Only the main rank has observers."""

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from codemix_megatron.plugins import PluginError, needed_plugin
from codemix_megatron.recipe.schema import Recipe, as_plain
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.events import RollbackEvent, RunEvent, ScoresEvent, StepEvent, StragglerEvent, ValidationEvent
from codemix_megatron.records.journal import Journal
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.console import ConsoleLines

__all__ = ["ConsoleObserver", "EventObserver", "JournalObserver", "Observer", "TensorboardObserver", "WandbObserver", "open_observers"]


class Observer(Protocol):
    """Something that events are written to."""

    def emit(self, event: RunEvent) -> None:
        """Write an event, or ignore it."""

    def close(self) -> None:
        """Write what is left and close."""


class JournalObserver:
    """Writes every event into journal.jsonl."""

    def __init__(self, run: RunFolder):
        self.journal = Journal(run.journal)

    def emit(self, event: RunEvent) -> None:
        """Append the event."""
        self.journal.append(event)

    def close(self) -> None:
        """Flush to disk."""
        self.journal.close()


class EventObserver:
    """Prints every event as a line of JSON, for scripts that started the ranks themselves with `--json`."""

    def emit(self, event: RunEvent) -> None:
        """Print the event."""
        sys.stdout.write(json.dumps(event.as_json()) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing to close."""


class ConsoleObserver:
    """Prints one line every few steps; used where no progress bar follows the journal."""

    def __init__(self, recipe: Recipe, num_steps: int):
        self.lines = ConsoleLines(recipe.observers.console_every_steps, num_steps)

    def emit(self, event: RunEvent) -> None:
        """Print the event if it is worth a line."""
        line = self.lines.line(event)
        if line:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def close(self) -> None:
        """Nothing to close."""


NUMBERS = ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "model_flops_per_second", "mfu", "seconds")


def scalars(event: RunEvent) -> dict[str, float]:
    """Return the numbers of a step, validation or straggler event under flat names; none for other events."""
    if isinstance(event, StepEvent):
        flat = {name: value for name in NUMBERS if (value := getattr(event, name)) is not None}
        flat[f"loss_in_phase/{event.phase}"] = event.loss
        return flat | under_tags(
            loss=event.loss_per_source,
            tokens=event.tokens_per_source,
            seconds=event.seconds_per_part,
            memory_bytes=event.memory_bytes,
            gradient_norm=event.gradient_norms or {},
        )
    if isinstance(event, StragglerEvent):
        return {f"straggler_factor/rank_{event.rank}": event.factor}
    if isinstance(event, ScoresEvent):
        return under_tags(scores={**event.bits_per_byte, **event.tasks})
    if isinstance(event, ValidationEvent):
        return under_tags(bits_per_byte=event.bits_per_byte, held_out_loss=event.loss_per_source)
    return {}


def under_tags(**groups: Mapping[str, float]) -> dict[str, float]:
    """Return tag/name -> value."""
    return {f"{tag}/{name}": value for tag, values in groups.items() for name, value in values.items()}


class TensorboardObserver:
    """Writes event files for tensorboard, one for each start; it forgets the steps of an earlier one that come again."""

    def __init__(self, run: RunFolder, step: int):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.writer = EventFileWriter(str(run.trackers / "tensorboard"))
        self.forget_after(step)

    def forget_after(self, step: int) -> None:
        """Have tensorboard drop what earlier files hold of the steps after this one."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self.writer.add_event(Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def emit(self, event: RunEvent) -> None:
        """Add the event's numbers at its step."""
        if isinstance(event, RollbackEvent):
            self.forget_after(event.step)
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        entries = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(event).items()]
        if entries:
            self.writer.add_event(Event(wall_time=time.time(), step=event.step, summary=Summary(value=entries)))

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()


class WandbObserver:
    """Logs to Weights & Biases: offline into the run folder, or online. Never asks a question.

    A run is one run there too, however often it is started: its id is kept in trackers/wandb.json, with the last step that was logged,
    for a step can be logged once only. Steps taken again after a resume are left out; on the same layout their numbers are the same.
    """

    def __init__(self, recipe: Recipe, run: RunFolder):
        import wandb

        mode = recipe.observers.wandb
        if mode == "online" and not os.environ.get("WANDB_API_KEY"):
            sys.stderr.write("wandb: WANDB_API_KEY is not set, logging offline; `wandb sync` uploads it later\n")
            mode = "offline"
        run.trackers.mkdir(parents=True, exist_ok=True)
        self.notes = run.trackers / "wandb.json"
        self.id, self.last_step = self.read_notes() or (secrets.token_hex(4), 0)
        self.known_steps = self.last_step
        self.run = wandb.init(
            project=recipe.observers.wandb_project,
            name=recipe.name,
            id=self.id,
            resume="allow" if mode == "online" else None,  # offline, `wandb sync --append` joins the parts by their id
            dir=str(run.trackers),
            mode="disabled" if mode == "off" else mode,
            config=as_plain(recipe),
            # no command line and no remote of a repository: the run's own record holds both, without their secrets
            settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_meta=True),
        )

    def emit(self, event: RunEvent) -> None:
        """Log the event's numbers at its step."""
        numbers = scalars(event)
        if numbers and event.step > self.known_steps:
            self.run.log(numbers, step=event.step)
            if event.step != self.last_step:
                self.last_step = event.step
                self.notes.write_text(json.dumps({"id": self.id, "last_step": self.last_step}), encoding="utf-8")

    def read_notes(self) -> tuple[str, int] | None:
        """Return id and last step of the run as an earlier start left them."""
        try:
            notes = read_json(self.notes)
            return str(notes["id"]), int(notes["last_step"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Finish the wandb run."""
        self.run.finish()


class PluginObserver:
    """An observer that an installed package adds. When it fails it is left out from then on: a run does not end for its observer."""

    def __init__(self, name: str, recipe: Recipe, run: RunFolder, step: int):
        self.plugin = needed_plugin("observers", name)
        try:
            self.observer: Observer | None = self.plugin.load()(recipe, run, step)
        except Exception as fault:
            raise PluginError(f"observers.plugins: {self.plugin.title} cannot be opened: {type(fault).__name__}: {fault}") from fault

    def emit(self, event: RunEvent) -> None:
        """Hand the event over."""
        if self.observer is not None:
            self.try_to(self.observer.emit, event)

    def close(self) -> None:
        """Let it close."""
        if self.observer is not None:
            self.try_to(self.observer.close)

    def try_to(self, do: Callable, *arguments) -> None:
        """Call it; say what it raised and leave it out after that."""
        try:
            do(*arguments)
        except Exception as fault:
            self.observer = None
            sys.stderr.write(f"{self.plugin.title} failed and gets no more events: {type(fault).__name__}: {fault}\n")


def open_observers(recipe: Recipe, run: RunFolder, num_steps: int, step: int = 0) -> list[Observer]:
    """Return the observers the recipe asks for, of a run that stands at `step`."""
    observers: list[Observer] = [JournalObserver(run)]
    if not os.environ.get("CODEMIX_FOLLOWED"):  # set by `codemix train`, which follows the journal itself
        observers.append(EventObserver() if os.environ.get("CODEMIX_JSON_EVENTS") else ConsoleObserver(recipe, num_steps))
    if recipe.observers.tensorboard:
        observers.append(TensorboardObserver(run, step))
    if recipe.observers.wandb != "off":
        observers.append(WandbObserver(recipe, run))
    observers += [PluginObserver(name, recipe, run, step) for name in recipe.observers.plugins]
    return observers
