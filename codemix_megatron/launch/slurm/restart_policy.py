"""Restart policy: done, requeue, leave or fail after one attempt, a pure decision over what its records say.

Two more outcomes need the job itself: training_start.py restarts with spare nodes, and resubmits where Slurm refuses to requeue.
"""

from dataclasses import dataclass
from typing import Literal

from codemix_megatron.errors import STOPPED_EARLY

__all__ = ["AttemptResult", "Decision", "decide"]

USER_FAULT = 2


@dataclass(frozen=True)
class AttemptResult:
    """How an attempt ended."""

    exit_code: int  # srun's
    steps: int  # of the run so far
    checkpoint_step: int
    event: Literal["end", "stop", "other"] = "other"  # the last in the journal that is of this start
    signal: str | None = None  # that reached the batch script
    is_cancelled: bool = False  # by scancel
    is_requeued: bool = False  # by Slurm itself
    is_preempted: bool = False
    is_overtaken: bool = False  # a later start works on the run
    lost_node: str | None = None  # one of its nodes that Slurm has lost
    failure: str | None = None  # what failed first, in words
    failure_exit_code: int = 1
    starts_without_progress: int = 0
    max_starts: int = 3


@dataclass(frozen=True)
class Decision:
    """What to do, why, and the exit code of the job."""

    # Of requeue becomes restart where the job has nodes to go on with, and resubmit where the site bars it.
    action: Literal["done", "requeue", "restart", "resubmit", "leave", "fail"]
    why: str
    exit_code: int


def decide(ending: AttemptResult) -> Decision:
    """Return done, requeue, leave (Slurm or somebody has decided already) or fail."""
    if ending.event == "end":
        return Decision("done", f"trained to step {ending.steps}", 0)
    if ending.is_overtaken:
        return Decision("leave", "a later start works on this run", 1)
    if ending.is_requeued:
        lost = f"{ending.lost_node} was lost; " if ending.lost_node else ""
        return Decision("leave", f"{lost}Slurm queues the job again; {where(ending)}", STOPPED_EARLY)
    if ending.is_cancelled and not ending.lost_node:
        return Decision("leave", f"cancelled; {where(ending)}; the same codemix launch resumes from there", STOPPED_EARLY)
    was_asked = ending.signal is not None or ending.is_preempted or ending.lost_node is not None
    if ending.event == "stop" and not was_asked:
        return Decision(
            "leave", f"stopped by the user and saved at step {ending.checkpoint_step}; the same codemix launch resumes", STOPPED_EARLY
        )
    if ending.failure_exit_code == USER_FAULT and ending.failure and not was_asked:
        return Decision("fail", f"{ending.failure}; trying again would not help", USER_FAULT)
    if ending.starts_without_progress >= ending.max_starts:
        return Decision("fail", f"{cause(ending)}; {given_up(ending)}", 1)
    return Decision("requeue", f"{cause(ending)}; {where(ending)}", STOPPED_EARLY)


def cause(ending: AttemptResult) -> str:
    """Say why the start ended early."""
    if ending.lost_node:
        return f"{ending.lost_node} was lost"
    if ending.event == "stop":
        return f"stopped by {ending.signal or 'preemption'} and saved"
    if ending.signal or ending.is_preempted:
        return f"{ending.signal or 'preemption'} came, and the ranks did not save in time"
    return ending.failure or f"srun ended with exit code {ending.exit_code} and no rank said why"


def where(ending: AttemptResult) -> str:
    """Say from where the next attempt resumes."""
    return f"checkpoint of step {ending.checkpoint_step} is there" if ending.checkpoint_step else "there is no checkpoint yet"


def given_up(ending: AttemptResult) -> str:
    """Say why there is no further start."""
    count = ending.starts_without_progress
    return (
        f"given up after {count} start{'s' * (count != 1)} in a row without a new checkpoint"
        f" (max_starts_without_progress {ending.max_starts}); {where(ending)}"
    )
