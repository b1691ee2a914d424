"""A rank that slows all others down, found while they train.

Ranks take their steps in lockstep, so a step lasts as long on each of them; what differs is how long a fixed work takes, how long
a rank waits for a core, and how late its data come. Each is compared with the median of the other ranks.
"""

import statistics
from dataclasses import dataclass

import torch
import torch.distributed as dist

from codemix_megatron.parallel.probe import Probe, core_seconds
from codemix_megatron.parallel.ranks import Ranks, gather
from codemix_megatron.recipe.schema import Observers
from codemix_megatron.watch.rank_environment import node_name

__all__ = ["StragglerWatch", "Window", "slowness"]

PROBES_PER_WINDOW = 5
WINDOWS_IN_A_ROW = 3  # before a rank is named, and before one that is fine again may be named anew


@dataclass(frozen=True)
class Window:
    """What one rank measured over some steps."""

    probe_seconds: float  # of the fixed work
    ran_seconds: float
    waited_seconds: float  # for a core
    data_seconds: float
    step_seconds: float  # all of them together


class StragglerWatch:
    """Hears every step on every rank; names a rank that was slow in several windows in a row."""

    def __init__(self, observers: Observers, ranks: Ranks):
        self.every, self.factor, self.ranks = observers.straggler_every_steps if ranks.size > 1 else 0, observers.straggler_factor, ranks
        self.probe = Probe(ranks.device) if self.every else None
        self.streaks = [0] * ranks.size  # windows in a row: slow, or as a negative number fine
        self.named: set[int] = set()
        self.begin_window()

    def begin_window(self) -> None:
        """Measure anew."""
        self.steps, self.data_seconds, self.step_seconds, self.cores = 0, 0.0, 0.0, core_seconds()

    def after(self, event: str, values: dict) -> list[tuple[str, dict]]:
        """Count a step; at a window's end return an event for each rank that is to be named. Every rank calls this."""
        if not self.every or event not in ("start", "step"):
            return []
        if event == "start":
            self.begin_window()
            return []
        self.steps += 1
        self.data_seconds += values["seconds_per_part"]["data"]
        self.step_seconds += values["seconds"]
        if self.steps % max(1, self.every // PROBES_PER_WINDOW) == 0:
            assert self.probe is not None
            self.probe.run()
        return self.end_window(values["step"]) if self.steps == self.every else []

    def end_window(self, step: int) -> list[tuple[str, dict]]:
        """Share what was measured, and judge; all ranks come to the same result."""
        ran, waited = (now - before for now, before in zip(core_seconds(), self.cores, strict=True))
        assert self.probe is not None
        windows = self.share(Window(self.probe.take(), ran, waited, self.data_seconds, self.step_seconds))
        self.begin_window()
        new: list[dict] = []
        for rank in range(self.ranks.size):
            factor, why = slowness(windows, rank)
            streak = self.streaks[rank]
            self.streaks[rank] = max(streak, 0) + 1 if factor > self.factor else min(streak, 0) - 1
            if self.streaks[rank] >= WINDOWS_IN_A_ROW and rank not in self.named:
                self.named.add(rank)
                new.append({"step": step, "rank": rank, "factor": round(factor, 2), "why": why, "steps": WINDOWS_IN_A_ROW * self.every})
            elif self.streaks[rank] <= -WINDOWS_IN_A_ROW:
                self.named.discard(rank)
        hosts = gather(self.ranks, node_name()) if new else []
        return [("straggler", {**event, "host": hosts[event["rank"]]}) for event in new]

    def share(self, window: Window) -> list[Window]:
        """Return the windows of all ranks, by one collective."""
        own = list(vars(window).values())
        table = torch.zeros(self.ranks.size, len(own), dtype=torch.float64, device=self.ranks.device)
        table[self.ranks.rank] = torch.tensor(own, dtype=torch.float64)
        dist.all_reduce(table)
        return [Window(*row) for row in table.tolist()]


def slowness(windows: list[Window], rank: int) -> tuple[float, str]:
    """Return by which factor a rank is slower than the median of the others, and at what it is slowest."""
    own, others = windows[rank], [window for other, window in enumerate(windows) if other != rank]
    found = {
        "a fixed work takes longer on its device": ratio(own.probe_seconds, [w.probe_seconds for w in others]),
        "its process waits for a core": ratio(crowding(own), [crowding(w) for w in others]),
        "its data come late": lateness(own, statistics.median(w.data_seconds for w in others)),
    }
    why = max(found, key=lambda name: found[name])
    return found[why], why


def ratio(own: float, others: list[float]) -> float:
    """Return a value over the median of others; 1 where nothing was measured."""
    usual = statistics.median(others)
    return own / usual if usual > 0 else 1.0


def crowding(window: Window) -> float:
    """Return by which factor the main thread takes longer because it waits for a core."""
    return 1 + window.waited_seconds / window.ran_seconds if window.ran_seconds > 0 else 1.0


def lateness(window: Window, usual_data_seconds: float) -> float:
    """Return by which factor a rank's steps would be shorter if its data came as they do elsewhere."""
    late = window.data_seconds - usual_data_seconds
    return window.step_seconds / (window.step_seconds - late) if 0 < late < window.step_seconds else 1.0
