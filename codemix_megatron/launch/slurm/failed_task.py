"""Which of a step's tasks failed first, in srun's own words: the one that a kill left none of its own."""

import re
import signal
from dataclasses import dataclass

__all__ = ["FailedTask", "first_failed_task"]

TASK = re.compile(r"srun: error: (?P<node>\S+): tasks? (?P<task>\d+)[\d,-]*: (?P<what>.+)")
NODE = re.compile(
    r"srun: error: (?:Node failure on (?P<failed>\S+)|Unable to create step|Task launch .*failed on node (?P<launch>[\w.-]+))"
)
EXIT_CODE = re.compile(r"Exited with exit code (\d+)")
SIGNALS = {signal.strsignal(number): number for number in signal.valid_signals() if signal.strsignal(number)}


@dataclass(frozen=True)
class FailedTask:
    """A task that ended badly; rank is None when srun names a node only."""

    rank: int | None
    node: str
    what: str
    exit_code: int  # 128 + N when a signal ended it

    @property
    def was_killed(self) -> bool:
        """Say whether a signal ended it, so that it could not speak for itself."""
        return self.exit_code > 128


def first_failed_task(log: str) -> FailedTask | None:
    """Return what srun complains of first in the output of one start, or None."""
    for line in log.splitlines():
        if task := TASK.search(line):
            what = task["what"].strip()
            return FailedTask(int(task["task"]), task["node"], what, exit_code_of(what))
        if (node := NODE.search(line)) and (name := node["failed"] or node["launch"]):
            return FailedTask(None, name.strip(",."), line.partition("error: ")[2].strip(), 1)
    return None


def exit_code_of(what: str) -> int:
    """Return the exit code that srun's words stand for."""
    if match := EXIT_CODE.search(what):
        return int(match[1])
    name = what.removesuffix(" (core dumped)")
    return 128 + SIGNALS[name] if name in SIGNALS else 1
