"""What a run has to remember besides weights and moments."""

from dataclasses import dataclass, field

__all__ = ["TrainState"]


@dataclass
class TrainState:
    """Where a run stands; it is part of every checkpoint's metadata. No field is needed on a path where nothing went wrong but the first two."""

    step: int = 0
    sequences_seen: int = 0
    skipped: list[list[int]] = field(default_factory=list)  # [first, last] steps whose batches are not trained on
    bad_in_a_row: int = 0  # batches just skipped because their loss was not finite
    rollbacks: int = 0
    recent_losses: list[float] = field(default_factory=list)  # of this phase, for the spike rule

    def is_skipped(self, step: int) -> bool:
        """Say whether the batch of `step` is not to be trained on."""
        return any(first <= step <= last for first, last in self.skipped)

    def skip(self, first: int, last: int) -> None:
        """Leave the batches of steps `first` to `last` out for good."""
        if [first, last] not in self.skipped:
            self.skipped.append([first, last])
