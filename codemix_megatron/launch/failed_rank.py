"""Which rank failed first, on which node, and what it said: from the ranks' own notes and from srun's complaints."""

from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.launch.failed_task import FailedTask, first_failed_task
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["FailedRank", "first_failed_rank"]


@dataclass(frozen=True)
class FailedRank:
    """The rank that failed first; rank is None when a node is all that is known."""

    rank: int | None
    node: str
    message: str
    exit_code: int
    where: str | None  # file:line
    log: Path | None

    @property
    def blames_node(self) -> bool:
        """Say whether the next start had better avoid the node: the machine failed, or nobody knows."""
        return self.exit_code != 2

    def describe(self) -> str:
        """Return one line that names rank, node and line."""
        who = f"rank {self.rank} on {self.node} failed first" if self.rank is not None else f"{self.node} failed"
        place = f", at {self.where}" if self.where else ""
        output = f" (output: {self.log})" if self.log else ""
        return f"{who}{place}: {self.message}{output}"


def first_failed_rank(run: RunFolder, start: str, log: Path, log_start: int, nodes) -> FailedRank | None:
    """Return the rank that failed first in a start, or None when nobody complains."""
    task = first_failed_task(read_from(log, log_start)) if log.exists() else None
    return from_task(run, task) if task else None


def from_task(run: RunFolder, task: FailedTask) -> FailedRank:
    """Return what srun knows of a task."""
    log = run.logs / f"rank-{task.rank}.log"
    what = f"killed ({task.what})" if task.was_killed else task.what
    return FailedRank(task.rank, task.node, what, task.exit_code, None, log if log.exists() else None)


def read_from(path: Path, start: int) -> str:
    """Return a file's text from a byte on."""
    with open(path, "rb") as handle:
        handle.seek(start)
        return handle.read().decode(errors="replace")
