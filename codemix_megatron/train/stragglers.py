"""A rank that slows all others down, found while they train.

Ranks take their steps in lockstep, so a step lasts as long on each of them; what differs is how long a fixed workload takes, how long
a rank waits for a core, and how late its data come. The main rank compares each with the median of the other ranks; the others only
send it five numbers in a window.
"""

from dataclasses import astuple, dataclass

import numpy as np
import torch
import torch.distributed as dist

from codemix_megatron.parallel.probe import Probe, core_seconds
from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.recipe.schema import Observers
from codemix_megatron.records.events import RunEvent, StartEvent, StepEvent, StragglerEvent
from codemix_megatron.train.medians import others_median
from codemix_megatron.watch.rank_environment import node_name

__all__ = ["WHY_SLOW", "StragglerWatch", "Window", "slowness"]

PROBES_PER_WINDOW = 5
WINDOWS_IN_A_ROW = 3  # before a rank is named, and before one that is fine again may be named again
WHY_SLOW = ("a fixed workload takes longer on its device", "its process waits for a core", "its data come late")


@dataclass(frozen=True)
class Window:
    """What one rank measured over some steps."""

    probe_seconds: float  # of the fixed workload
    ran_seconds: float
    waited_seconds: float  # for a core
    data_seconds: float
    step_seconds: float  # all of them together


class StragglerWatch:
    """Gets every step on every rank; names a rank that was slow in several windows in a row."""

    def __init__(self, observers: Observers, ranks: Ranks):
        self.every, self.factor, self.ranks = observers.straggler_every_steps if ranks.size > 1 else 0, observers.straggler_factor, ranks
        self.probe = Probe(ranks.device) if self.every else None
        self.streaks = np.zeros(ranks.size, dtype=np.int64)  # windows in a row: slow, or as a negative number fine
        self.is_named = np.zeros(ranks.size, dtype=bool)
        self.hosts: list[str] | None = None
        self.begin_window()

    def begin_window(self) -> None:
        """Begin to measure a window."""
        self.steps, self.data_seconds, self.step_seconds, self.cores = 0, 0.0, 0.0, core_seconds()

    def after(self, event: RunEvent) -> list[StragglerEvent]:
        """Count a step; at a window's end the main rank returns an event for each rank that is to be named. Every rank calls this."""
        if self.every and isinstance(event, StartEvent):
            self.begin_window()
        if not self.every or not isinstance(event, StepEvent):
            return []
        self.steps += 1
        self.data_seconds += event.seconds_per_part["data"]
        self.step_seconds += event.seconds
        if self.steps % max(1, self.every // PROBES_PER_WINDOW) == 0:
            assert self.probe is not None
            self.probe.run()
        return self.end_window(event.step) if self.steps == self.every else []

    def end_window(self, step: int) -> list[StragglerEvent]:
        """Send what was measured to the main rank, which judges."""
        ran, waited = (now - before for now, before in zip(core_seconds(), self.cores, strict=True))
        if self.hosts is None:
            self.hosts = self.share_hosts()
        table = self.share(Window(self.probe.take() if self.probe else 0.0, ran, waited, self.data_seconds, self.step_seconds))
        self.begin_window()
        return [] if table is None else self.judge(step, table)

    def judge(self, step: int, table: np.ndarray) -> list[StragglerEvent]:
        """Count windows in a row; return an event for each rank that is to be named."""
        factors = slowness(table)
        is_slow = factors.max(axis=1) > self.factor
        self.streaks = np.where(is_slow, np.maximum(self.streaks, 0) + 1, np.minimum(self.streaks, 0) - 1)
        self.is_named &= self.streaks > -WINDOWS_IN_A_ROW
        new = np.flatnonzero((self.streaks >= WINDOWS_IN_A_ROW) & ~self.is_named)
        self.is_named[new] = True
        events = []
        for rank in new.tolist():
            factor, why = round(float(factors[rank].max()), 2), WHY_SLOW[int(factors[rank].argmax())]
            host = self.hosts[rank] if self.hosts else "?"
            events.append(StragglerEvent(step=step, rank=rank, factor=factor, why=why, steps=WINDOWS_IN_A_ROW * self.every, host=host))
        return events

    def share_hosts(self) -> list[str]:
        """Return the nodes of all ranks, on the main rank; nothing elsewhere."""
        hosts: list = [None] * self.ranks.size if self.ranks.is_main else []
        dist.gather_object(node_name(), hosts or None)
        return hosts

    def share(self, window: Window) -> np.ndarray | None:
        """Return the windows of all ranks as a table of one row for each, on the main rank; None elsewhere."""
        own = torch.tensor(astuple(window), dtype=torch.float64, device=self.ranks.device)
        if not self.ranks.is_main:
            dist.gather(own)
            return None
        rows = own.new_empty(self.ranks.size, len(own))
        dist.gather(own, list(rows))
        return rows.cpu().numpy()


def slowness(table: np.ndarray) -> np.ndarray:
    """Return by which factor each rank is slower than the median of the others, in order of WHY_SLOW: float64 [ranks, 3].

    `table` has the fields of a Window for each rank. O(N log N) for N ranks.
    """
    probe, ran, waited, data, steps = table.T
    crowding = 1 + np.divide(waited, ran, out=np.zeros_like(ran), where=ran > 0)
    late = data - others_median(data)
    is_late = (late > 0) & (late < steps)
    lateness = np.divide(steps, steps - late, out=np.ones_like(steps), where=is_late)
    return np.stack([over_others(probe), over_others(crowding), lateness], axis=1)


def over_others(values: np.ndarray) -> np.ndarray:
    """Return each value over the median of the others; 1 where nothing was measured."""
    usual = others_median(values)
    return np.divide(values, usual, out=np.ones_like(values), where=usual > 0)
