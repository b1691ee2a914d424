"""How fast this rank can compute: a small fixed workload on its device, and how long its main thread waits for a core."""

import statistics
import time
from pathlib import Path

import torch

__all__ = ["Probe", "core_seconds"]

SCHEDULING = Path("/proc/self/schedstat")  # Linux: nanoseconds the main thread ran, and was ready and waited for a core
WIDTH = {"cpu": 192, "cuda": 2048}
REPEATS = {"cpu": 1, "cuda": 8}


class Probe:
    """The same work at each call, timed: matrix products and a copy. Allocates once; draws no random numbers.

    On CPU the time for which the main thread waited for a core is left out: `core_seconds` returns it, and it is another cause.
    """

    def __init__(self, device: torch.device):
        self.device = device
        precision = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.matrix = torch.ones(WIDTH[device.type], WIDTH[device.type], dtype=precision, device=device)
        self.product, self.copy = torch.empty_like(self.matrix), torch.empty_like(self.matrix)
        self.pending: list = []

    @torch.no_grad()
    def run(self) -> None:
        """Do it once; on CUDA only launch it, between events that are read later."""
        began = self.mark()
        for _ in range(REPEATS[self.device.type]):
            torch.mm(self.matrix, self.matrix, out=self.product)
            self.copy.copy_(self.product)
        self.pending.append((began, self.mark()))

    def mark(self):
        """Return the moment, on the device's clock."""
        if self.device.type != "cuda":
            return time.perf_counter() - core_seconds()[1]
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def take(self) -> float:
        """Return the median of what it took since the last call, 0 if it never ran."""
        if self.device.type == "cuda" and self.pending:
            self.pending[-1][1].synchronize()
            seconds = [began.elapsed_time(ended) / 1000 for began, ended in self.pending]
        else:
            seconds = [ended - began for began, ended in self.pending]
        self.pending = []
        return statistics.median(seconds) if seconds else 0.0


def core_seconds() -> tuple[float, float]:
    """Return for how long the main thread ran and was ready but waited for a core, both 0 where the kernel does not report it."""
    try:
        ran, waited, _ = SCHEDULING.read_text().split()
        return int(ran) / 1e9, int(waited) / 1e9
    except (OSError, ValueError):
        return 0.0, 0.0
