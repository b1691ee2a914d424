"""Starting ranks on this machine, and following them to their end."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from codemix_megatron.errors import CodemixError, LaunchError, RankCrashed
from codemix_megatron.launch.heartbeat import Watch
from codemix_megatron.records.atomic import read_json, write_json
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["KILL_AFTER_SECONDS", "Launch", "end_with_parent", "follow_ranks", "is_a_rank", "note_failure", "start_ranks"]

DEAD_RANK = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
POLL_SECONDS = 0.2
KILL_AFTER_SECONDS = 20
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def is_a_rank() -> bool:
    """Say whether this process was started by torchrun or srun as one of several ranks."""
    return "RANK" in os.environ or "SLURM_STEP_ID" in os.environ


@dataclass(frozen=True)
class Launch:
    """A launcher process with ranks under it; they leave notes of what went wrong in `notes`.

    The notes are kept off the run's own disk, which may be what is full.
    """

    process: subprocess.Popen
    notes: Path


def start_ranks(run: RunFolder, command: list[str], num_ranks: int, port: int, launch: str) -> Launch:
    """Start `codemix COMMAND` on `num_ranks` ranks in a session of their own; their output goes to logs/ranks.log.

    `launch` is written into the journal's start event, so that the caller finds where its part begins.
    """
    check_port(port)
    run.logs.mkdir(parents=True, exist_ok=True)
    run.stop.unlink(missing_ok=True)  # one from an earlier start; from here on it means these ranks
    notes = Path(tempfile.mkdtemp(prefix="codemix-notes-"))
    words = [sys.executable, "-m", "codemix_megatron.cli.ranks", str(num_ranks), str(port), *command]
    environment = {**os.environ, "CODEMIX_FOLLOWED": launch, "CODEMIX_NOTES": str(notes), "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_NUM_THREADS", "1")  # no threads before the fork; ranks choose theirs themselves
    with open(run.logs / "ranks.log", "ab") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    return Launch(process, notes)


def check_port(port: int) -> None:
    """Raise LaunchError when a port other than 0 (any free one) is taken."""
    if port:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as fault:
                raise LaunchError(f"--port {port}: {fault.strerror.lower()}; choose another, or 0 for any free one", exit_code=2) from None


def follow_ranks(run: RunFolder, launch: Launch, on_tick) -> None:
    """Wait for the ranks, calling `on_tick()` now and then; raises LaunchError naming what failed first.

    A rank that hangs is named, and all are killed. SIGINT, SIGTERM and SIGUSR1 to this process become the run's stop
    file: all ranks finish their step, save and leave. A second signal kills them.
    """
    asked, ranks = [], launch.process

    def ask_to_stop(number, frame):
        asked.append(number)
        if len(asked) == 1:
            run.stop.touch()
        else:
            kill_family(ranks)

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    previous = {name: signal.signal(name, ask_to_stop) for name in names}
    log_start, watch = (run.logs / "ranks.log").stat().st_size, Watch(launch.notes)
    try:
        while ranks.poll() is None:
            on_tick()
            time.sleep(POLL_SECONDS)
            if any(launch.notes.glob("rank-*.json")):
                end_session(ranks)
            elif hang := watch.find_hang():
                raise LaunchError(hang)
        on_tick()
    finally:
        kill_family(ranks)
        for name, handler in previous.items():
            signal.signal(name, handler)
        failures = [read_json(path) for path in launch.notes.glob("rank-*.json")]
        shutil.rmtree(launch.notes, ignore_errors=True)
    if ranks.returncode:
        raise what_failed(run.logs / "ranks.log", failures, ranks.returncode, log_start)


def end_session(ranks: subprocess.Popen) -> None:
    """Give ranks that are left after a failure a short while to end by themselves, then kill them."""
    try:
        ranks.wait(KILL_AFTER_SECONDS)
    except subprocess.TimeoutExpired:
        kill_family(ranks)
        ranks.wait()


def kill_family(ranks: subprocess.Popen) -> None:
    """Kill the process that forked the ranks, and the ranks, and wait until they are gone."""
    if ranks.poll() is not None:
        return  # it ended by itself, and its ranks with it
    started = psutil.Process(ranks.pid).children(recursive=True)
    ranks.kill()
    ranks.wait()
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(started, KILL_AFTER_SECONDS)


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies, however it dies (Linux).

    A killed launching process would else leave ranks behind that go on writing into the run's folder.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def note_failure(rank: int, fault: BaseException) -> None:
    """Leave what went wrong on this rank where the launching process finds it, if one is there."""
    notes = os.environ.get("CODEMIX_NOTES")
    if notes:
        known = isinstance(fault, CodemixError)
        message = str(fault) if known else f"{type(fault).__name__}: {fault}"
        content = {"rank": rank, "message": message, "known": known, "exit_code": getattr(fault, "exit_code", 1), "at": time.time()}
        write_json(Path(notes) / f"rank-{rank}.json", content)


def what_failed(log: Path, failures: list[dict], returncode: int, log_start: int) -> LaunchError:
    """Name the first rank that failed, and why: its own words before those of ranks it dragged along."""
    known = sorted((f for f in failures if f["known"]), key=lambda f: f["at"])
    if known:
        return LaunchError(known[0]["message"], exit_code=known[0]["exit_code"])
    text = read_from(log, log_start)
    dead = DEAD_RANK.search(text)
    if dead and int(dead[1]) < 0:
        number = signal.Signals(-int(dead[1]))
        kind, name = RankCrashed if number in CRASHES else LaunchError, number.name
        return kind(f"rank {dead[2]} was killed by {name}; run the same command again to go on from the last checkpoint (output: {log})")
    if failures:
        first = min(failures, key=lambda f: f["at"])
        return LaunchError(f"rank {first['rank']}: {first['message']} (output: {log})")
    last = [line for line in text.splitlines() if line.strip()][-1:] or ["no output"]
    return LaunchError(f"the ranks ended with exit code {returncode}: {last[0].strip()} (output: {log})")


def read_from(path: Path, start: int) -> str:
    """Return a file's text from a byte on."""
    with open(path, "rb") as handle:
        handle.seek(start)
        return handle.read().decode(errors="replace")
