"""One start at a time trains in a run folder: RUN/.lease, which its main rank holds and renews. No torch.

RUN/.lease/N is the N-th holder, created so that only one of several can (O_EXCL). It says who holds it, its time stamp is when it was
last renewed, and N.released takes its place at the end. The next one, N + 1, may be created when holder N is known to be gone:

- it is a process of this machine, and that has ended;
- it is an earlier start of the same Slurm job, which Slurm or the batch script has ended before this one;
- it was not renewed for LEASE_SECONDS by the clock of the file system: a holder that could not renew for less than that ends itself.

A holder that was stopped and wakes up later finds N + 1 there: `check` refuses it before a checkpoint gets its name, and the next holder
has put another journal in the place of the one it has open.
"""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

from codemix_megatron.errors import LaunchError
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.rank_environment import node_name, start_id

__all__ = ["Holder", "Lease", "LEASE_SECONDS", "wait_until_free"]

LEASE_SECONDS = 30.0
RENEW_SECONDS = 5.0
DYING_SECONDS = 10.0  # a start that was killed may still be on its way out
POLL_SECONDS = 0.2
NUMBER = re.compile(r"(\d+)(\.released)?")
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """Who holds a lease."""

    start: str
    host: str
    process: int
    began: str  # when the process did, in ticks since the machine's start
    machine: str  # this boot of the kernel, and the processes it shows us
    job: str | None = None  # of Slurm
    restarts: int = 0

    @classmethod
    def here(cls) -> "Holder":
        """Return this process as a holder."""
        job, restarts = os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        return cls(start_id(), node_name(), os.getpid(), began_at(os.getpid()) or "", this_machine(), job, restarts)

    @property
    def has_ended(self) -> bool:
        """Say whether it is known to be gone, whatever its lease says."""
        if self.job and self.job == os.environ.get("SLURM_JOB_ID") and self.restarts < int(os.environ.get("SLURM_RESTART_COUNT") or 0):
            return True
        if self.start in os.environ.get("CODEMIX_ENDED", "").split(","):  # an earlier start in this very job, which srun has ended
            return True
        return self.is_of_this_machine and began_at(self.process) != self.began

    @property
    def is_of_this_machine(self) -> bool:
        """Say whether its process would be seen from here."""
        return bool(self.began) and self.machine == this_machine()

    def __str__(self) -> str:
        job = f"Slurm job {self.job}, " if self.job else ""
        return f"{job}process {self.process} on {self.host}"


def this_machine() -> str:
    """Return what identifies this boot of this machine and this view of its processes; empty where it is not known."""
    try:
        return (PROCESSES / "sys/kernel/random/boot_id").read_text().strip() + os.readlink(PROCESSES / "self/ns/pid")
    except OSError:
        return ""


def began_at(process: int) -> str | None:
    """Return when a process of this machine began, None when it has ended (or waits to be buried)."""
    try:
        fields = (PROCESSES / str(process) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Entry:
    """The newest lease of a folder."""

    number: int
    is_released: bool
    holder: Holder | None  # None while it is being written
    renewed_at: float
    age_seconds: float  # since it was renewed, by the file system's clock

    @property
    def is_free(self) -> bool:
        """Say whether somebody else may take it over."""
        return self.is_released or self.age_seconds > LEASE_SECONDS or (self.holder is not None and self.holder.has_ended)


def newest_number(folder: Path) -> tuple[int, bool]:
    """Return the number of the newest lease, 0 without one, and whether it was released."""
    try:
        found = [NUMBER.fullmatch(name) for name in os.listdir(folder)]
    except FileNotFoundError:
        return 0, True
    return max(((int(m[1]), bool(m[2])) for m in found if m), default=(0, True))


def newest_entry(folder: Path) -> Entry:
    """Read the newest lease. Opening it has network file systems ask the server for its time stamp."""
    number, is_released = newest_number(folder)
    if is_released:
        return Entry(number, True, None, 0.0, 0.0)
    try:
        with open(folder / str(number), encoding="utf-8") as handle:
            renewed_at = os.fstat(handle.fileno()).st_mtime
            text = handle.read()
    except FileNotFoundError:  # released meanwhile
        return Entry(number, True, None, 0.0, 0.0)
    try:
        holder = Holder(**json.loads(text))
    except (ValueError, TypeError):
        holder = None
    return Entry(number, False, holder, renewed_at, clock_of(folder) - renewed_at)


def clock_of(folder: Path) -> float:
    """Return the time by the clock of a folder's file system."""
    probe = folder / f"clock-{os.getpid()}"
    try:
        probe.touch()
        with open(probe, encoding="utf-8") as handle:
            return os.fstat(handle.fileno()).st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def wait_until_free(run: Path, patience: float = DYING_SECONDS) -> int:
    """Return the number of the last lease once a run's folder may be taken over; raises LaunchError (exit code 2) naming who trains there.

    A holder that shows that it lives gets `patience` seconds to leave. One that does not is waited for until its lease has run out.
    """
    began, seen = time.monotonic(), newest_entry(run / ".lease")
    first = seen.renewed_at
    while not seen.is_free:
        lives = seen.renewed_at != first or (seen.holder is not None and seen.holder.is_of_this_machine)
        if lives and time.monotonic() - began >= patience:
            raise LaunchError(
                f"{run}: another start trains in it ({seen.holder}); wait for it, or have it save and stop: touch {run}/stop", exit_code=2
            )
        time.sleep(POLL_SECONDS)
        seen = newest_entry(run / ".lease")
    return seen.number


class Lease:
    """A run folder held by this process from `take` until `release`; `on_loss(text)` is called on a thread when somebody took it over."""

    def __init__(self, run: Path, on_loss: Callable[[str], None] | None = None):
        self.run, self.folder, self.on_loss = run, run / ".lease", on_loss or end_process
        self.number = 0
        self.ended = Event()
        self.thread: Thread | None = None

    def take(self, patience: float = DYING_SECONDS) -> None:
        """Take the lease, or raise LaunchError naming who has it."""
        while True:
            number = wait_until_free(self.run, patience) + 1
            RunFolder(self.run).make(self.folder)
            try:
                with open(self.folder / str(number), "x", encoding="utf-8") as handle:
                    json.dump(asdict(Holder.here()), handle)
            except FileExistsError:
                continue  # somebody was quicker
            break
        self.number, self.renewed_at = number, ticks()
        self.remove_older()
        self.thread = Thread(target=self.keep, name="lease", daemon=True)
        self.thread.start()

    def remove_older(self) -> None:
        """Remove what earlier holders left."""
        for name in os.listdir(self.folder):
            match = NUMBER.fullmatch(name)
            if match and int(match[1]) < self.number:
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()

    def check(self) -> None:
        """Raise LaunchError when this process holds the lease no more. One that never took it has nothing to lose."""
        if self.number and (fault := self.fault()):
            raise LaunchError(fault)

    def fault(self) -> str | None:
        """Say what became of the lease: taken over, or too old to rely on."""
        if newest_number(self.folder)[0] > self.number:
            return f"{self.run}: another start has taken this run over; this one ends and writes no more"
        if ticks() - self.renewed_at > LEASE_SECONDS * 0.8:
            return f"{self.run}: its lease could not be renewed for {LEASE_SECONDS * 0.8:.0f} s, so that another start may take it over"
        return None

    def keep(self) -> None:
        """Renew the lease until it is released or lost."""
        while not self.ended.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError):
                if newest_number(self.folder)[0] == self.number:
                    os.utime(self.folder / str(self.number))
                    self.renewed_at = ticks()
            with contextlib.suppress(OSError):
                if fault := self.fault():
                    return self.on_loss(fault)

    def release(self) -> None:
        """Let others in."""
        self.ended.set()
        if self.thread:
            self.thread.join(RENEW_SECONDS)
            with contextlib.suppress(OSError):
                os.rename(self.folder / str(self.number), self.folder / f"{self.number}.released")
        self.thread = None


def ticks() -> float:
    """Return seconds of a clock that also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def end_process(text: str) -> None:
    """Say why and end at once; what started this rank then ends the others."""
    sys.stderr.write(f"codemix train: error: {text}\n")
    sys.stderr.flush()
    os._exit(1)
