"""How a run stands: finished, stopped or under way, and what happened on the way."""

from dataclasses import dataclass
from datetime import UTC, datetime

from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import count, duration, moment, plural

__all__ = ["Interruption", "Status", "find_interruptions", "read_status", "started_at", "training_seconds"]

QUIET_SECONDS = 3600  # a journal unchanged for longer than this may belong to a run that was killed
MET = {
    "skipped": "batch left out: {reason}",
    "rollback": "gone on from here again, batches of steps {skipped[0]} to {skipped[1]} are left out: {text}",
    "straggler": "rank {rank} on {host} was {factor} times as slow as the others: {why}",
}


@dataclass(frozen=True, kw_only=True)
class Status:
    """In words, with a tone: good, warning or quiet."""

    text: str
    tone: str
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """A stop, a resume, or what else training met, placed in tokens."""

    kind: str  # stop, resume, skipped, rollback or straggler
    step: int
    tokens: int
    text: str
    at: str = ""


def read_status(run: RunData) -> Status:
    """Say whether the run is finished, stopped or under way."""
    of = f" of {count(run.planned_steps)}" if run.planned_steps else ""
    last = next((e for e in reversed(run.events) if e.get("event") in ("start", "step", "stop", "end")), None)
    if last is None:
        return Status(text="Not started", tone="quiet")
    if last["event"] == "end":
        return Status(text=f"Finished after {plural(last.get('step', run.last_step), 'step')}", tone="good", finished=True)
    if last["event"] == "stop":
        reason = f": {last['reason']}" if last.get("reason") else ""
        return Status(text=f"Stopped at step {count(last.get('step', run.last_step))}{of}{reason}", tone="warning")
    silent = datetime.now(UTC).timestamp() - run.folder.journal.stat().st_mtime
    text = f"In progress, step {count(run.last_step)}{of}"
    if silent > QUIET_SECONDS:
        return Status(text=f"{text}; nothing recorded for {duration(silent)}", tone="warning")
    return Status(text=text, tone="quiet")


def training_seconds(run: RunData) -> float:
    """Return the time spent in training steps that survived."""
    return sum(event.get("seconds") or 0.0 for event in run.steps)


def started_at(run: RunData) -> str:
    """Return when the run began, as far as it is recorded."""
    recorded = (run.environment or {}).get("started_at")
    return moment(recorded or next((e.get("at") for e in run.events if e.get("event") == "start"), None))


def find_interruptions(run: RunData) -> list[Interruption]:
    """Return stops, resumes, skipped batches, roll backs and slow ranks in the order of the journal."""
    tokens_at = {event["step"]: event.get("tokens", 0) for event in run.steps}
    found, begun, stopped = [], False, False
    for event in run.events:
        kind, step = event.get("event"), event.get("step", 0)
        if kind == "start":
            if begun:
                how = "" if stopped else " after an unrecorded end"
                ranks = f" on {plural(event['ranks'], 'rank')}" if event.get("ranks") else ""
                text = f"resumed{how}{ranks}"
                found.append(Interruption(kind="resume", step=step, tokens=tokens_at.get(step, 0), text=text, at=moment(event.get("at"))))
            begun, stopped = True, False
        elif kind == "stop":
            stopped = True
            text = f"stopped: {event['reason']}" if event.get("reason") else "stopped"
            found.append(Interruption(kind="stop", step=step, tokens=tokens_at.get(step, 0), text=text, at=moment(event.get("at"))))
        elif kind in MET:
            found.append(Interruption(kind=kind, step=step, tokens=tokens_at.get(step, 0), text=MET[kind].format(**event)))
    return found
