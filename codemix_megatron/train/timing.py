"""How long the parts of a step take on this rank."""

import functools
import time
from collections import defaultdict

import torch

__all__ = ["StepClock", "step_clock", "timed", "wait_for_device"]


class StepClock:
    """Sums the seconds of named parts until they are taken.

    On CUDA the parts are timed by events of the current stream, so that what is launched counts and not the launching;
    never run on a GPU yet.
    """

    def __init__(self):
        self.seconds, self.pending = defaultdict(float), []

    def begin(self):
        """Return the mark of a beginning."""
        return mark_stream() if torch.cuda.is_initialized() else time.perf_counter()

    def end(self, name: str, begun) -> None:
        """Count a part that began at a mark."""
        if isinstance(begun, float):
            self.seconds[name] += time.perf_counter() - begun
        else:
            self.pending.append((name, begun, mark_stream()))

    def take(self) -> dict[str, float]:
        """Return the seconds per part since the last call, and start again from zero."""
        for name, begun, ended in self.pending:
            ended.synchronize()
            self.seconds[name] += begun.elapsed_time(ended) / 1000
        taken, self.seconds, self.pending = dict(self.seconds), defaultdict(float), []
        return taken


def mark_stream():
    """Return an event of the current CUDA stream."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def wait_for_device() -> None:
    """Wait until the device has done what was launched: a clock read before that leaves out the end of a step, clip and update."""
    if torch.cuda.is_initialized():
        torch.cuda.current_stream().synchronize()


step_clock = StepClock()  # a rank is a process and takes one step at a time


def timed(name: str):
    """Count the seconds of each call of a function under `name`, which a profile shows too."""

    def wrap(function):
        @functools.wraps(function)
        def counted(*arguments, **named):
            begun = step_clock.begin()
            with torch.profiler.record_function(name):
                result = function(*arguments, **named)
            step_clock.end(name, begun)
            return result

        return counted

    return wrap
