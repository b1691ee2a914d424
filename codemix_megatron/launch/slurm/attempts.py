"""RUN/launch/attempts.jsonl: every start of a run's jobs, and what was decided at its end.

A `begin` event holds start (JOB.RESTARTS), job, nodes, master, at, checkpoint_step (0 without one); an `end` event start, action, why,
exit_code, checkpoint_step, bad_node where one is at fault, and next_job where a job was submitted to go on, for the site does not queue
one again. A start whose node lost power has no end. A `recovery` event has start and seconds: from a failure to the first step of the start
after it in the same job.
"""

from dataclasses import dataclass, field
from pathlib import Path

from codemix_megatron.records.journal import Journal, read_journal
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["Attempts", "checkpoint_step"]


def checkpoint_step(run: RunFolder) -> int:
    """Return the step of the newest checkpoint that the journal tells of, 0 without one."""
    return max((event["step"] for event in read_journal(run.journal) if event["event"] == "checkpoint"), default=0)


@dataclass
class Attempts:
    """The starts of one run, oldest first."""

    path: Path
    events: list[dict] = field(default_factory=list)

    @classmethod
    def of(cls, run: RunFolder) -> "Attempts":
        """Read those of a run folder; there may be none yet."""
        path = run.launch / "attempts.jsonl"
        return cls(path, read_journal(path))

    def add(self, event: str, **values) -> None:
        """Append one event, on disk when this returns."""
        journal = Journal(self.path)
        journal.append(event, **values)
        journal.close()
        self.events.append({"event": event, **values})

    def begins(self, job: str) -> list[dict]:
        """Return the starts of one job."""
        return [event for event in self.events if event["event"] == "begin" and event["job"] == job]

    def latest_start(self) -> str | None:
        """Return the start that the run folder belongs to now."""
        return next((event["start"] for event in reversed(self.events) if event["event"] == "begin"), None)

    def jobs_up_to(self, job: str) -> list[str]:
        """Return a job after those it was submitted to go on from, oldest first."""
        before = {event["next_job"]: event["start"].rpartition(".")[0] for event in self.events if event.get("next_job")}
        chain = [job]
        while chain[0] in before:
            chain.insert(0, before[chain[0]])
        return chain

    def goes_on_in(self, job: str) -> str:
        """Return the job that does a job's work now: itself, or the last of those submitted to go on from it."""
        after = {event["start"].rpartition(".")[0]: event["next_job"] for event in self.events if event.get("next_job")}
        while job in after:
            job = after[job]
        return job

    def without_progress(self, job: str, step: int) -> int:
        """Count the last starts of a job, and of those before it, that began no earlier than at `step`, where the run stands now."""
        count, jobs = 0, self.jobs_up_to(job)
        for begin in reversed([event for event in self.events if event["event"] == "begin" and event["job"] in jobs]):
            if begin["checkpoint_step"] < step:
                break
            count += 1
        return count

    def bad_nodes(self) -> dict[str, str]:
        """Return node -> why, of those blamed for the end of a start."""
        return {event["bad_node"]: event["why"] for event in self.events if event.get("bad_node")}

    def unended(self, job: str) -> dict | None:
        """Return the job's last start when nobody wrote down its end: its batch node is gone, or Slurm killed it."""
        begins = self.begins(job)
        ended = {event["start"] for event in self.events if event["event"] == "end"}
        return begins[-1] if begins and begins[-1]["start"] not in ended else None
