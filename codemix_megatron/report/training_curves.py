"""How a run stands: finished, stopped or under way, and what happened on the way."""

from dataclasses import dataclass
from datetime import UTC, datetime

from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import (
    EndEvent,
    RollbackEvent,
    RunEvent,
    SkippedEvent,
    StartEvent,
    StepEvent,
    StopEvent,
    StragglerEvent,
)
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import count, duration, moment, plural

__all__ = ["Interruption", "Status", "find_interruptions", "read_status", "started_at", "training_seconds"]

QUIET_SECONDS = 3600  # a journal unchanged for longer than this may belong to a run that was killed


@dataclass(frozen=True, kw_only=True)
class Status:
    """In words, with a tone: good, warning or quiet."""

    text: str
    tone: str
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """A stop, a resume or another interruption, placed in tokens."""

    kind: str  # stop, resume, skipped, rollback or straggler
    step: int
    tokens: int
    text: str
    at: str = ""


def read_status(run: RunData) -> Status:
    """Say whether the run is finished, stopped or under way."""
    of = f" of {count(run.planned_steps)}" if run.planned_steps else ""
    last = next((e for e in reversed(run.events) if isinstance(e, StartEvent | StepEvent | StopEvent | EndEvent)), None)
    if last is None:
        return Status(text="Not started", tone="quiet")
    if isinstance(last, EndEvent):
        return Status(text=f"Finished after {plural(last.step, 'step')}", tone="good", finished=True)
    if isinstance(last, StopEvent):
        reason = f": {last.reason}" if last.reason else ""
        return Status(text=f"Stopped at step {count(last.step)}{of}{reason}", tone="warning")
    silent = datetime.now(UTC).timestamp() - run.folder.journal.stat().st_mtime
    text = f"In progress, step {count(run.last_step)}{of}"
    if silent > QUIET_SECONDS:
        return Status(text=f"{text}; nothing recorded for {duration(silent)}", tone="warning")
    return Status(text=text, tone="quiet")


def training_seconds(run: RunData) -> float:
    """Return the time spent in training steps that survived."""
    return sum(event.seconds for event in run.steps)


def started_at(run: RunData) -> str:
    """Return when the run began, as far as it is recorded."""
    recorded = (run.environment or {}).get("started_at")
    return moment(recorded or next((start.at for start in of_kind(run.events, StartEvent)), None))


def find_interruptions(run: RunData) -> list[Interruption]:
    """Return stops, resumes, skipped batches, rollbacks and slow ranks in the order of the journal."""
    tokens_at = {event.step: event.tokens for event in run.steps}
    found: list[Interruption] = []
    begun, stopped = False, False
    for event in run.events:
        if text := describe(event, begun, stopped):
            at = moment(event.at) if isinstance(event, StartEvent | StopEvent) else ""
            kind = "resume" if isinstance(event, StartEvent) else event.kind
            found.append(Interruption(kind=kind, step=event.step, tokens=tokens_at.get(event.step, 0), text=text, at=at))
        begun = begun or isinstance(event, StartEvent)
        stopped = isinstance(event, StopEvent) or (stopped and not isinstance(event, StartEvent))
    return found


def describe(event: RunEvent, begun: bool, stopped: bool) -> str:
    """Return what interrupted training in words; nothing of other events, nor of a run's first start."""
    match event:
        case StartEvent() if begun:
            how = "" if stopped else " after an unrecorded end"
            ranks = f" on {plural(event.ranks, 'rank')}" if event.ranks else ""
            return f"resumed{how}{ranks}"
        case StopEvent():
            return f"stopped: {event.reason}" if event.reason else "stopped"
        case SkippedEvent():
            return f"batch skipped: {event.reason}"
        case RollbackEvent():
            first, last = event.skipped
            return f"training resumed from here, batches of steps {first} to {last} are skipped: {event.text}"
        case StragglerEvent():
            return f"rank {event.rank} on {event.host} was {event.factor} times as slow as the others: {event.why}"
    return ""
