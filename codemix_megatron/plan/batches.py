"""Steps and positions of a run whose global batch may change: runs of (steps, sequences in each).

Positions count sequences of model.sequence_length, whatever a phase cuts them into; so batch and length change where they like, and what was read
is still one integer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BatchShape", "Run", "batch_runs", "position_after", "steps_to"]

Run = Sequence[int]  # steps, sequences in each


@dataclass(frozen=True)
class BatchShape:
    """A global batch: sequences of model.sequence_length, each cut into so many parts that are trained on by themselves."""

    sequences: int
    parts: int = 1


def batch_runs(plan: dict) -> list[Run]:
    """Return the batches of a plan, as plan.json holds it; those written before batches could change have one size."""
    return [run for phase in plan["phases"] for run in phase.get("batches") or [[phase["steps"], plan["global_sequences"]]]]


def position_after(step: int, first_step: int, first_position: int, runs: Sequence[Run]) -> int:
    """Return the position after `step`, of a run that stood at `first_position` after `first_step`; beyond its ends its sizes go on."""
    left, position = step - first_step, first_position
    for number, (steps, size) in enumerate(runs, 1):
        taken = left if number == len(runs) else min(left, steps)
        position, left = position + taken * size, left - taken
        if left <= 0:
            break
    return position


def steps_to(sequences: int, runs: Sequence[Run]) -> int:
    """Return after how many steps at least so many sequences are read."""
    done = 0
    for steps, size in runs:
        if sequences <= steps * size:
            return done + -(-max(0, sequences) // size)
        done, sequences = done + steps, sequences - steps * size
    return done
