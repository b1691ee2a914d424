"""Which rank failed first, on which node, and what it said: from the ranks' own notes and from srun's complaints."""

from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.launch.slurm.failed_task import FailedTask, first_failed_task
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.failures import Failure, first_failure
from codemix_megatron.watch.hardware import hardware_words
from codemix_megatron.watch.rank_log import rank_log_path

__all__ = ["FailedRank", "first_failed_rank"]

LAST_BYTES = 65536  # of a rank's log, in which the words before its end are looked for


@dataclass(frozen=True)
class FailedRank:
    """The rank that failed first; rank is None when a node is all that is known."""

    rank: int | None
    node: str
    message: str
    exit_code: int
    where: str | None = None  # file:line
    log: Path | None = None
    evidence: str | None = None  # what speaks for a fault of the node; without it none is blamed

    def describe(self) -> str:
        """Return one line that names rank, node and line."""
        who = f"rank {self.rank} on {self.node} failed first" if self.rank is not None else f"{self.node} failed"
        location = f", at {self.where}" if self.where else ""
        output = f" (output: {self.log})" if self.log else ""
        evidence = f"; the node is at fault: {self.evidence}" if self.evidence and self.evidence not in self.message else ""
        return f"{who}{location}: {self.message}{evidence}{output}"


def first_failed_rank(run: RunFolder, start: str, log: Path, log_start: int) -> FailedRank | None:
    """Return the rank that failed first in a start, or None when nobody complains.

    A rank that a signal ended leaves no note; then those of ranks that lost it say nothing of the cause, and srun's words do.
    """
    failure = first_failure(run, start)
    said = read_from(log, log_start) if log.exists() else ""
    task = first_failed_task(said)
    if failure and (not failure.is_secondary or task is None or not task.was_killed):
        return from_failure(run, failure)
    return from_task(run, task, said) if task else None


def from_failure(run: RunFolder, failure: Failure) -> FailedRank:
    """Return what a rank noted."""
    return FailedRank(
        failure.rank,
        failure.host,
        failure.message,
        failure.exit_code,
        failure.where,
        rank_log_path(run, failure.rank, failure.host),
        failure.evidence,
    )


def from_task(run: RunFolder, task: FailedTask, said: str) -> FailedRank:
    """Return what srun knows of a task; for a fault of its node speak srun itself and what stands in the logs."""
    log = None if task.rank is None else rank_log_path(run, task.rank, task.node)
    own = last_start_of(log, task.rank) if log and log.exists() else ""
    evidence = "srun lost it" if task.rank is None else hardware_words(f"{task.what}\n{own}\n{said}")
    what = f"killed by a signal ({task.what})" if task.was_killed else task.what
    return FailedRank(task.rank, task.node, what, task.exit_code, None, log if log and log.exists() else None, evidence)


def last_start_of(log: Path, rank: int | None) -> str:
    """Return what a rank's log, or that of its node, holds of its last start."""
    said = read_from(log, max(0, log.stat().st_size - LAST_BYTES))
    if log.name.startswith("node-"):
        said = "\n".join(line for line in said.splitlines() if line.startswith(f"[{rank}] "))
    return said.rpartition(" start ")[2]


def read_from(path: Path, start: int) -> str:
    """Return a file's text from a byte on."""
    with open(path, "rb") as handle:
        handle.seek(start)
        return handle.read().decode(errors="replace")
