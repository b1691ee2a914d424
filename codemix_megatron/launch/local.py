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
from functools import partial
from pathlib import Path

import psutil

from codemix_megatron.errors import LaunchError, RankCrashed
from codemix_megatron.placement import node_name
from codemix_megatron.ports import reserve_port
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.failures import Failure, first_failure
from codemix_megatron.watch.heartbeat import Watch
from codemix_megatron.watch.rank_log import rank_log_path

__all__ = ["KILL_AFTER_SECONDS", "Launch", "end_with_parent", "follow_ranks", "start_ranks"]

DEAD_RANK = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
POLL_SECONDS = 0.2
KILL_AFTER_SECONDS = 20
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class Launch:
    """A launcher process with ranks under it, under the name they call their start by.

    Their heartbeats are in `notes`, and what went wrong where the run's own disk does not take it, which may be what is full.
    """

    name: str
    process: subprocess.Popen
    notes: Path
    port: socket.socket  # held until the ranks have ended


def start_ranks(run: RunFolder, command: list[str], num_ranks: int, port: int, launch: str) -> Launch:
    """Start `codemix COMMAND` on `num_ranks` ranks in a session of their own; the main rank's lines go to logs/ranks.log.

    `launch`, their name for this start, is written into the journal's start event, so that the caller finds where its part begins.
    """
    run.make(run.logs)
    held = hold_port(port)
    run.stop.unlink(missing_ok=True)  # one from an earlier start; from here on it means these ranks
    notes = Path(tempfile.mkdtemp(prefix="codemix-notes-"))
    words = [sys.executable, "-m", "codemix_megatron.cli.ranks", str(num_ranks), str(held.getsockname()[1]), *command]
    environment = {**os.environ, "CODEMIX_FOLLOWED": launch, "CODEMIX_NOTES": str(notes), "CODEMIX_RUN": str(run), "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_NUM_THREADS", "1")  # no threads before the fork; ranks choose theirs themselves
    with open(run.logs / "ranks.log", "ab") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, os.getpid()),
        )
    return Launch(launch, process, notes, held)


def hold_port(port: int) -> socket.socket:
    """Hold the port that ranks meet at (0: any free one), so that no other start gets it; raises LaunchError when it is taken."""
    if not 0 <= port <= 65535:
        raise LaunchError(f"--port: found {port}, allowed are 0 (any free one) to 65535", exit_code=2)
    try:
        return reserve_port(port, "127.0.0.1")
    except OSError as fault:
        raise LaunchError(f"--port {port}: {str(fault.strerror).lower()}; choose another, or 0 for any free one", exit_code=2) from None


def follow_ranks(run: RunFolder, launch: Launch, on_tick) -> None:
    """Wait for the ranks, calling `on_tick()` now and then; raises LaunchError naming what failed first.

    A rank that hangs is named, and all are killed. SIGINT, SIGTERM, SIGUSR1 and SIGHUP to this process become the run's stop
    file: all ranks finish their step, save and leave. A second signal kills them, but for SIGHUP, which comes twice when a terminal goes.
    """
    asked: list[int] = []
    ranks, terminals = launch.process, [number for number in (1, 2) if os.isatty(number)]

    def ask_to_stop(number, frame):
        if number == signal.SIGHUP:
            redirect_to_log(run, terminals)
            if asked:
                return
        asked.append(number)
        if len(asked) == 1:
            run.stop.touch()
        else:
            kill_family(ranks)

    names = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        names.append(signal.SIGHUP)
    previous = {name: signal.signal(name, ask_to_stop) for name in names}
    log_start, watch = (run.logs / "ranks.log").stat().st_size, Watch(launch.notes)
    try:
        while ranks.poll() is None:
            try:
                on_tick()
            except OSError:  # nobody reads any more; that is no reason to end the ranks
                redirect_to_log(run, [1, 2])
            time.sleep(POLL_SECONDS)
            if first_failure(run, launch.name, launch.notes):
                end_session(ranks)
            elif hang := watch.find_hang():
                raise LaunchError(hang)
        on_tick()
    finally:
        kill_family(ranks)
        for name, handler in previous.items():
            signal.signal(name, handler)
        first = first_failure(run, launch.name, launch.notes)
        shutil.rmtree(launch.notes, ignore_errors=True)
        launch.port.close()
    if ranks.returncode:
        raise what_failed(run, first, ranks.returncode, log_start)


def redirect_to_log(run: RunFolder, descriptors: list[int]) -> None:
    """Have what this process writes to a terminal that is gone, where every write fails, go to a file."""
    log = os.open(run.logs / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in descriptors:
        os.dup2(log, number)
    os.close(log)


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


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which started it, dies, however it dies (Linux); end if it is dead already.

    A killed launching process would else leave ranks behind that go on writing into the run's folder.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


def what_failed(run: RunFolder, first: Failure | None, returncode: int, log_start: int) -> LaunchError:
    """Name what failed first, and why: a rank's own words before those of ranks it dragged along."""
    log = run.logs / "ranks.log"
    if first and first.known and not first.is_secondary:
        return LaunchError(first.sentence, exit_code=first.exit_code)
    text = read_from(log, log_start)
    dead = DEAD_RANK.search(text)
    if dead and int(dead[1]) < 0:
        number, output = signal.Signals(-int(dead[1])), rank_log_path(run, int(dead[2]), node_name())
        kind, name = RankCrashed if number in CRASHES else LaunchError, number.name
        return kind(
            f"rank {dead[2]} was killed by {name}; run the same command again to resume from the last checkpoint (output: {output})"
        )
    if first:
        return LaunchError(f"{first.sentence} (output: {rank_log_path(run, first.rank, node_name())})")
    if returncode < 0:
        return LaunchError(
            f"the process that started the ranks was killed by {signal.Signals(-returncode).name};"
            f" run the same command again to resume from the last checkpoint (output: {log})"
        )
    last = [line for line in text.splitlines() if line.strip()][-1:] or ["no output"]
    return LaunchError(f"the ranks ended with exit code {returncode}: {last[0].strip()} (output: {log})")


def read_from(path: Path, start: int) -> str:
    """Return a file's text from a byte on."""
    with open(path, "rb") as handle:
        handle.seek(start)
        return handle.read().decode(errors="replace")
