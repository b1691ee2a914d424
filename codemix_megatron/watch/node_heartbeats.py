"""Heartbeats of many nodes: ranks write to a folder in their node's memory, and one file for each node goes to the shared disk. No torch.

A node's first rank sums up its node; its second one does so while the first one's thread stands still. Files are written the less often
the more nodes there are, so that the shared disk sees about as many for a thousand nodes as for fifty.
"""

import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event, Thread

from codemix_megatron.placement import node_name
from codemix_megatron.watch.heartbeat import SILENT_TICKS, Heartbeat, read_heartbeats

__all__ = ["LEADERS", "NodeSummary", "node_folder", "summary_seconds"]

MEMORY = Path("/dev/shm")
WRITES_PER_SECOND = 20  # of all nodes together
LEAST_SECONDS = 5.0
LEADERS = 2  # ranks of a node that may sum it up


def node_folder(token: str) -> Path:
    """Return the folder of this node's heartbeats, made on its own disk or in its memory; `token` is one of this start alone."""
    base = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    folder = base / f"codemix-{token}-{node_name()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def summary_seconds(num_nodes: int, tick_seconds: float) -> float:
    """Return how often a node is summed up: as often as ranks write, or less so that all nodes together stay below a rate.

    >>> summary_seconds(8, 5.0), summary_seconds(1024, 5.0)
    (5.0, 51.2)
    """
    return max(min(LEAST_SECONDS, tick_seconds), num_nodes / WRITES_PER_SECOND)


class NodeSummary:
    """Writes the last heartbeats of this node's ranks to `shared`, until `stop`. For a node's first two ranks."""

    def __init__(self, local: Path, shared: Path, is_first: bool, seconds: float):
        self.local, self.path, self.seconds, self.is_first = local, shared / f"node-{node_name()}.json", seconds, is_first
        self.first_seen: tuple[int, float] = (-1, time.monotonic())  # the first rank's ticks, and since when they are the same
        self.ended = Event()
        self.thread = Thread(target=self.keep, name="node", daemon=True)
        self.thread.start()

    def keep(self) -> None:
        """Sum up, now and then, until the end."""
        while not self.ended.wait(self.seconds):
            self.sum_up()

    def sum_up(self) -> None:
        """Write one file, where it is this rank's turn; a full disk is noticed elsewhere."""
        heartbeats = read_heartbeats(self.local)
        if self.is_first or self.is_first_silent(heartbeats):
            with suppress(OSError):
                partial = self.path.with_suffix(f".partial-{os.getpid()}")
                slower = [replace(heartbeat, tick_seconds=max(heartbeat.tick_seconds, self.seconds)) for heartbeat in heartbeats]
                partial.write_text(json.dumps(list(map(asdict, slower))))
                os.replace(partial, self.path)

    def is_first_silent(self, heartbeats: list[Heartbeat]) -> bool:
        """Say whether the node's first rank has written nothing for some ticks."""
        first, now = min(heartbeats, key=lambda heartbeat: heartbeat.rank, default=None), time.monotonic()
        if first is None or first.is_done:
            return False
        if first.ticks != self.first_seen[0]:
            self.first_seen = first.ticks, now
        return now - self.first_seen[1] > SILENT_TICKS * first.tick_seconds

    def stop(self) -> None:
        """Write a last time and leave nothing on the node."""
        self.ended.set()
        self.thread.join(self.seconds)
        if self.is_first:
            self.sum_up()
            shutil.rmtree(self.local, ignore_errors=True)
