"""Noticing a rank that is alive but stuck, and saying which one it is and where.

A rank's main thread announces what it begins; a thread of its own writes the count of announcements into a file every
so often. Who reads these files (the launching process, or the first and the last rank where nobody launched them)
knows a rank that stands still from one that does not run any more. One stuck rank stops all of them in their next
collective: the one that is behind, or that waits for nobody, is the one to name. Each rank's stacks are written by
a timer of faulthandler, which needs neither a signal from another machine nor the interpreter lock. No torch.
"""

import faulthandler
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread

from codemix_megatron.errors import LaunchError
from codemix_megatron.watch.rank_environment import node_name

__all__ = ["SILENT_TICKS", "Heartbeat", "HeartbeatWriter", "Watch", "end_when_hung", "read_heartbeats"]

MOST_TICK_SECONDS = 5.0
SILENT_TICKS = 4  # a rank that missed so many does not run any more
FRAME = re.compile(r'^  File "(.+)", line (\d+) in (\S+)')
# Where a rank stands that waits for another one.
WAITING = ("torch/distributed/", "p2p_communication.py", "param_and_grad_buffer.py", "tensor_parallel/mappings.py")


@dataclass(frozen=True)
class Heartbeat:
    """A rank's last heartbeat."""

    rank: int
    size: int
    host: str
    pid: int
    stacks: str  # file its stacks go to
    tick_seconds: float
    patience_seconds: float = 0.0  # longest time until its next heartbeat
    where: str = "starting"
    count: int = 0
    ticks: int = 0
    is_done: bool = False


def open_stacks(logs: Path, rank: int):
    """Return the file that this rank's stacks go to, open as long as the run: in `logs`, or where this node can write."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        return open(logs / f"stacks-rank-{rank}.txt", "w", encoding="utf-8")
    except OSError:
        # Under a name nobody can foresee: a link that waits under a known one would have this process write elsewhere.
        return tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix=f"codemix-stacks-rank-{rank}-", suffix=".txt", delete=False)


class HeartbeatWriter:
    """This rank's heartbeats, written to `folder` until `stop`."""

    def __init__(self, folder: Path, logs: Path, rank: int, size: int, patience_seconds: float):
        self.path = folder / f"heart-{rank}.json"
        self.stacks = open_stacks(logs, rank)
        tick = min(MOST_TICK_SECONDS, patience_seconds / 10)
        self.state = Heartbeat(rank, size, node_name(), os.getpid(), self.stacks.name, tick, patience_seconds)
        self.announced_at, self.armed_for, self.ended = time.monotonic(), -1, Event()
        self.at_stop: list[Callable[[], None]] = []  # what else ends with it
        faulthandler.register(signal.SIGUSR2, file=self.stacks, all_threads=True)
        self.write(self.state)  # a rank that is stopped at once is seen too
        self.thread = Thread(target=self.tick, name="heart", daemon=True)
        self.thread.start()

    def announce(self, where: str, patience_seconds: float) -> None:
        """Say that the main thread begins something that takes at most so long."""
        self.announced_at = time.monotonic()
        self.state = replace(self.state, where=where, patience_seconds=patience_seconds, count=self.state.count + 1)

    def tick(self) -> None:
        """Write the file and set the timer of the stack dump again after each heartbeat, until the end."""
        ticks = 0
        while not self.ended.wait(self.state.tick_seconds):
            ticks += 1
            now = self.state
            if now.count != self.armed_for:
                left = self.announced_at + now.patience_seconds - time.monotonic()
                faulthandler.dump_traceback_later(max(0.1, left), file=self.stacks)
                self.armed_for = now.count
            self.write(replace(now, ticks=ticks))

    def write(self, heartbeat: Heartbeat) -> None:
        """Replace the file; a full disk is noticed elsewhere."""
        try:
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(asdict(heartbeat)))
            os.replace(partial, self.path)
        except OSError:
            pass

    def stop(self) -> None:
        """End the heartbeats: this rank is no longer to be watched."""
        self.ended.set()
        self.thread.join(MOST_TICK_SECONDS)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.unregister(signal.SIGUSR2)
        self.write(replace(self.state, is_done=True))
        for end in self.at_stop:
            end()
        self.stacks.close()


@dataclass(frozen=True)
class Sight:
    """A rank as the watcher sees it: its heartbeat, and for how long neither its work nor its thread went on."""

    heartbeat: Heartbeat
    still_seconds: float
    silent_seconds: float

    @property
    def slack_seconds(self) -> float:
        """Some ticks more than announced: files come late on a loaded machine, and the timers that write the stacks come first."""
        return SILENT_TICKS * self.heartbeat.tick_seconds + 1

    @property
    def is_overdue(self) -> bool:
        """Say whether it should have begun something else by now."""
        return self.still_seconds > self.heartbeat.patience_seconds + self.slack_seconds

    @property
    def is_silent(self) -> bool:
        """Say whether its thread stands still too, and its file may be older than what its main thread last did."""
        return self.silent_seconds > self.slack_seconds


class Watch:
    """Reads the heartbeats of all ranks now and then."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.moved_at: dict[int, tuple[int, float]] = {}  # rank -> count, when it was first seen
        self.ticked_at: dict[int, tuple[int, float]] = {}
        self.looked_at = time.monotonic()

    def find_hang(self, now: float | None = None) -> str | None:
        """Return what to say when ranks make no progress for longer than they announced, else None."""
        now = time.monotonic() if now is None else now
        if now - self.looked_at > 2 * MOST_TICK_SECONDS:  # this process was suspended itself; perhaps the whole machine was
            self.moved_at.clear()
            self.ticked_at.clear()
        self.looked_at = now
        sights = [self.see(heartbeat, now) for heartbeat in read_heartbeats(self.folder)]
        suspects = find_suspects([sight for sight in sights if not sight.heartbeat.is_done])
        return describe(suspects) if suspects else None

    def see(self, heartbeat: Heartbeat, now: float) -> Sight:
        """Return for how long a rank has not moved."""
        still, silent = (
            since(self.moved_at, heartbeat.rank, heartbeat.count, now),
            since(self.ticked_at, heartbeat.rank, heartbeat.ticks, now),
        )
        return Sight(heartbeat, now - still, now - silent)


def read_heartbeats(folder: Path) -> list[Heartbeat]:
    """Return the heartbeats that are there: of one rank in each file, or of all ranks of a node."""
    heartbeats = []
    for path in [*folder.glob("heart-*.json"), *folder.glob("node-*.json")]:
        try:
            found = json.loads(path.read_text())
            heartbeats += [Heartbeat(**plain) for plain in (found if isinstance(found, list) else [found])]
        except (OSError, ValueError, TypeError):
            continue
    return sorted(heartbeats, key=lambda heartbeat: heartbeat.rank)


def since(table: dict, rank: int, value: int, now: float) -> float:
    """Return when `value` was first seen of this rank."""
    if table.get(rank, (None, 0))[0] != value:
        table[rank] = value, now
    return table[rank][1]


def find_suspects(sights: list[Sight]) -> list[Sight]:
    """Return the ranks that hold up the others, once some rank is overdue; none while it is not sure yet.

    A silent rank is judged whatever it last announced. Else those that are behind are waited for: the others
    wait for them, and may have been seen to hang earlier or have announced less.
    """
    if not any(sight.is_overdue for sight in sights):
        return []
    if silent := [sight for sight in sights if sight.is_silent]:
        return silent
    behind = min(sight.heartbeat.count for sight in sights)
    last = [sight for sight in sights if sight.heartbeat.count == behind]
    if not all(sight.is_overdue for sight in last):
        return []
    return [sight for sight in last if not is_waiting(Path(sight.heartbeat.stacks))] or last


def describe(suspects: list[Sight]) -> str:
    """Name the ranks that hold up the others, and where the first of them stands."""
    first = suspects[0]
    heartbeat = first.heartbeat
    names = f"rank {heartbeat.rank}" if len(suspects) == 1 else "ranks " + ", ".join(str(s.heartbeat.rank) for s in suspects)
    if first.is_silent:
        what = f"not running any more (stopped, or its machine is gone) since {first.silent_seconds:.0f} s in {heartbeat.where}"
    else:
        what = f"stuck since {first.still_seconds:.0f} s in {heartbeat.where}{innermost_frames(Path(heartbeat.stacks))}"
    return (
        f"{names} of {heartbeat.size} ({heartbeat.host}): {what};"
        f" stacks of the ranks are in {Path(heartbeat.stacks).parent}/stacks-rank-*.txt;"
        " run the same command again to go on from the last checkpoint"
    )


def main_thread(stacks: Path) -> list[tuple[str, str, str]]:
    """Return (file, line, function) of the main thread in the last timed dump, innermost first."""
    try:
        _, _, dump = stacks.read_text(errors="replace").rpartition("Timeout (")
    except OSError:
        return []
    found = (FRAME.match(line) for line in dump.strip().split("\n\n")[-1].splitlines())
    return [(match[1], match[2], match[3]) for match in found if match]


def is_waiting(stacks: Path) -> bool:
    """Say whether a rank stands in communication with another one."""
    return any(part in file for file, _, _ in main_thread(stacks) for part in WAITING)


def innermost_frames(stacks: Path) -> str:
    """Return where a rank stands, as text to append: the innermost frame, and ours that led to it."""
    frames = main_thread(stacks)
    ours = [frame for frame in frames if "codemix_megatron" in frame[0]]
    shown = list(dict.fromkeys([*frames[:1], *ours[:1]]))
    return "".join(f", at {file}:{line} in {function}" for file, line, function in shown)


def end_when_hung(folder: Path, interval_seconds: float, report) -> Thread:
    """Watch all ranks from a thread of this one, and end this process with exit code 1 and a message when one hangs.

    `report(fault)` leaves it where faults of this rank are looked for.

    For ranks that nobody follows; what started them (torchrun, srun with --kill-on-bad-exit) then ends the others.
    """

    def look() -> None:
        watch = Watch(folder)
        while (hang := watch.find_hang()) is None:
            time.sleep(interval_seconds)
        report(LaunchError(hang))
        sys.stderr.write(f"codemix train: error: {hang}\n")
        sys.stderr.flush()
        os._exit(1)

    thread = Thread(target=look, name="watch", daemon=True)
    thread.start()
    return thread
