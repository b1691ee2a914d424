"""RUN/launch/attempts.jsonl: every start of a run's jobs, and what was decided at its end.

An attempt is one start of a job's ranks, named JOB.RESTARTS; one whose node lost power has no end. docs/journal.md has the fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from codemix_megatron.records.event_lines import Event, always, kinds_by_name, of_kind, sometimes
from codemix_megatron.records.events import CheckpointEvent
from codemix_megatron.records.journal import Journal, read_events, read_lines
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["ATTEMPT_EVENTS", "AttemptBegan", "AttemptEnded", "AttemptEvent", "Attempts", "Recovered", "checkpoint_step"]


@dataclass(frozen=True, kw_only=True)
class AttemptEvent(Event):
    """Something that happened to one attempt; by itself, an event of a kind that this version does not know."""

    start: str = always("the attempt, JOB.RESTARTS", missing="")


@dataclass(frozen=True, kw_only=True)
class AttemptBegan(AttemptEvent):
    """Ranks are about to be started."""

    kind: ClassVar[str] = "begin"
    job: str = always("Slurm's id of the job", missing="")
    nodes: list[str] = always("nodes that the ranks start on", missing=list)
    master: str = always("address and port where the ranks meet", missing="")
    checkpoint_step: int = always("step of the newest checkpoint, 0 without one", missing=0)
    at: str = always("UTC, ISO 8601", missing="")


@dataclass(frozen=True, kw_only=True)
class AttemptEnded(AttemptEvent):
    """An attempt is over; of one that a node took with it, written by the next attempt."""

    kind: ClassVar[str] = "end"
    action: str = always("what was decided: done, leave, requeue, resubmit, restart, fail or lost", missing="")
    why: str = always("the reason", missing="")
    exit_code: int | None = sometimes("exit code of the ranks")
    checkpoint_step: int | None = sometimes("step of the newest checkpoint, 0 without one")
    bad_node: str | None = sometimes("the node at fault")
    next_job: str | None = sometimes("the job that was submitted to go on, where the site queues no job again")
    at: str | None = sometimes("UTC, ISO 8601")


@dataclass(frozen=True, kw_only=True)
class Recovered(AttemptEvent):
    """The first step of an attempt that follows another one in the same job."""

    kind: ClassVar[str] = "recovery"
    seconds: float = always("from the failure of the attempt before to this step", missing=0.0)


ATTEMPT_EVENTS: dict[str, type[AttemptEvent]] = kinds_by_name([AttemptBegan, AttemptEnded, Recovered])


def attempt_event_of(line: Mapping[str, Any]) -> AttemptEvent:
    """Return the event that a line's object holds."""
    return ATTEMPT_EVENTS.get(line["event"], AttemptEvent).from_json(line)


def checkpoint_step(run: RunFolder) -> int:
    """Return the step of the newest checkpoint that the journal records, 0 without one."""
    return max((event.step for event in of_kind(read_events(run.journal), CheckpointEvent)), default=0)


@dataclass
class Attempts:
    """The starts of one run, oldest first."""

    path: Path
    events: list[AttemptEvent] = field(default_factory=list)

    @classmethod
    def of(cls, run: RunFolder) -> "Attempts":
        """Read those of a run folder; there may be none yet."""
        path = run.launch / "attempts.jsonl"
        return cls(path, [attempt_event_of(line) for line in read_lines(path)])

    def add(self, event: AttemptEvent) -> None:
        """Append one event, on disk when this returns."""
        journal = Journal(self.path)
        journal.append(event)
        journal.close()
        self.events.append(event)

    @property
    def begun(self) -> list[AttemptBegan]:
        """The attempts that were begun."""
        return of_kind(self.events, AttemptBegan)

    @property
    def ended(self) -> list[AttemptEnded]:
        """The attempts that were ended."""
        return of_kind(self.events, AttemptEnded)

    def begins(self, job: str) -> list[AttemptBegan]:
        """Return the starts of one job."""
        return [begin for begin in self.begun if begin.job == job]

    def latest_start(self) -> str | None:
        """Return the start that the run folder belongs to now."""
        return next((begin.start for begin in reversed(self.begun)), None)

    def jobs_up_to(self, job: str) -> list[str]:
        """Return a job after those it was submitted to go on from, oldest first."""
        before = {end.next_job: job_of(end) for end in self.ended if end.next_job}
        chain = [job]
        while chain[0] in before:
            chain.insert(0, before[chain[0]])
        return chain

    def goes_on_in(self, job: str) -> str:
        """Return the job that does a job's work now: itself, or the last of those submitted to go on from it."""
        after = {job_of(end): end.next_job for end in self.ended if end.next_job}
        while job in after:
            job = after[job]
        return job

    def without_progress(self, job: str, step: int) -> int:
        """Count the last starts of a job, and of those before it, that began no earlier than at `step`, where the run stands now."""
        count, jobs = 0, self.jobs_up_to(job)
        for begin in reversed([begin for begin in self.begun if begin.job in jobs]):
            if begin.checkpoint_step < step:
                break
            count += 1
        return count

    def bad_nodes(self, at_fault: str | None = None) -> dict[str, str]:
        """Return node -> why, of those blamed for the end of a start and the one at fault now: the one blamed last stands last."""
        blamed = [(end.bad_node, end.why) for end in self.ended if end.bad_node] + ([(at_fault, "at fault")] if at_fault else [])
        latest_first: dict[str, str] = {}
        for node, why in reversed(blamed):
            latest_first.setdefault(node, why)
        return dict(reversed(latest_first.items()))

    def unended(self, job: str) -> AttemptBegan | None:
        """Return the job's last start when its end was not recorded: its batch node is gone, or Slurm killed it."""
        begins = self.begins(job)
        ended = {end.start for end in self.ended}
        return begins[-1] if begins and begins[-1].start not in ended else None


def job_of(event: AttemptEvent) -> str:
    """Return the job that an attempt is one of."""
    return event.start.rpartition(".")[0]
