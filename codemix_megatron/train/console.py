"""Journal events as lines people read. No torch: the launching process prints them too."""

import time

from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.records.events import (
    CheckpointEvent,
    PhaseEndEvent,
    PreflightEvent,
    ProfileEvent,
    RollbackEvent,
    RunEvent,
    ScoresEvent,
    SkippedEvent,
    StepEvent,
    StopEvent,
    StragglerEvent,
    ValidationEvent,
    WarningEvent,
)

__all__ = ["ConsoleLines"]


class ConsoleLines:
    """Turns events into lines: some steps, held-out scores, checkpoints, stops."""

    def __init__(self, every_steps: int, num_steps: int):
        self.every, self.num_steps = every_steps, num_steps
        self.began_at = 0.0
        self.first_step: int | None = None

    def line(self, event: RunEvent) -> str | None:
        """Return the line of an event, or None when it is not worth one."""
        match event:
            case StepEvent():
                return self.step_line(event)
            case SkippedEvent():
                return f"step {event.step}/{self.num_steps} skipped: {event.reason}"
            case ValidationEvent():
                return validation_line(event)
            case ScoresEvent():
                return scores_line(event)
            case CheckpointEvent():
                return checkpoint_line(event)
            case PreflightEvent():
                return preflight_line(event)
            case RollbackEvent():
                first, last = event.skipped
                return f"{event.text}; back to step {event.step}, batches of steps {first} to {last} are skipped"
            case StragglerEvent():
                who = f"rank {event.rank} on {event.host}"
                return f"{who} is {event.factor} times as slow as the others since {event.steps} steps: {event.why}"
            case ProfileEvent():
                return f"{event.what} up to step {event.step}: {event.path}"
            case PhaseEndEvent() if event.loss is not None:
                return f"end of {event.phase}: loss {event.loss:.4f} over {event.steps_measured} steps"
            case WarningEvent():
                return f"warning: {event.text}"
            case StopEvent():
                return f"stop at step {event.step}: {event.reason}"
        return None

    def step_line(self, step: StepEvent) -> str | None:
        """Return step, loss, rate, speed and the time left, of the first step, the last one and those that are due."""
        if self.first_step is None:
            self.began_at, self.first_step = time.monotonic() - step.seconds, step.step
        if step.step % self.every and step.step not in (self.first_step, self.num_steps):
            return None
        done = step.step - self.first_step + 1
        left = (time.monotonic() - self.began_at) / done * (self.num_steps - step.step)
        sources = " ".join(f"{name} {loss:.3f}" for name, loss in step.loss_per_source.items())
        return (
            f"step {step.step}/{self.num_steps}  {step.phase}  loss {step.loss:.4f} ({sources})"
            f"  lr {step.learning_rate:.2e}  {format_tokens(round(step.tokens_per_second))} tokens/s  {left:.0f} s left"
        )


def validation_line(event: ValidationEvent) -> str | None:
    """Return held-out bits per byte, nats per learned token of sources with a loss mask; nothing where no source has held-out text."""
    masked = {name: loss for name, loss in event.loss_per_source.items() if name not in event.bits_per_byte}
    units = {"bits per byte": event.bits_per_byte, "nats per learned token": masked}
    told = [f"{unit}: " + "  ".join(f"{name} {value:.3f}" for name, value in of.items()) for unit, of in units.items() if of]
    return f"held out, {'; '.join(told)}" if told else None


def scores_line(event: ScoresEvent) -> str:
    """Return what was scored while training, or why nothing was, and what it costs."""
    told = "  ".join(f"{name} {value:.3f}" for name, value in {**event.bits_per_byte, **event.tasks}.items())
    return f"scores after step {event.step}: {told or '; '.join(event.not_scored)} ({100 * event.share_of_time:.1f} % of the time)"


def checkpoint_line(event: CheckpointEvent) -> str:
    """Return size and time of a save."""
    stalled = f", training was stalled for {event.stall_seconds:.2f} s of it" if event.asynchronous else ""
    return f"checkpoint at step {event.step}: {event.bytes / 2**20:.1f} MiB in {event.seconds:.1f} s{stalled}"


def preflight_line(event: PreflightEvent) -> str | None:
    """Return that nodes are alike and how fast they exchange data; nothing where there is one."""
    if not event.bytes_per_second_between or (event.nodes or 1) < 2:
        return None
    slowest = min(event.bytes_per_second_between.values())
    return f"{event.nodes} nodes are alike ({event.device}); the slowest exchanges {slowest / 1e9:.2f} GB/s with its neighbours"
