"""Running a study's tasks on this machine: as many at a time as fit, whatever fails; stopped and resumed by the same call."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from codemix_megatron.errors import STOPPED_EARLY
from codemix_megatron.launch.local import end_with_parent
from codemix_megatron.placement import LAUNCHER_VARIABLES
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.machine import Machine
from codemix_megatron.study.tasks import Task, command_line, is_done

__all__ = ["LocalStudy", "said_last"]

POLL_SECONDS = 0.25
STOP_SECONDS = 120  # beside a run's own longest wait


@dataclass
class Running:
    """A task under way."""

    task: Task
    process: subprocess.Popen
    log: IO
    rest: list[tuple[str, ...]]
    given: dict


class LocalStudy:
    """Starts tasks whose needs are done, follows them, and writes into study.json how each ended."""

    def __init__(self, tasks: dict[str, Task], folder: StudyFolder, machine: Machine):
        self.tasks, self.folder, self.machine = tasks, folder, machine
        self.state = folder.read()
        self.done = {name for name, task in tasks.items() if is_done(task, folder)}
        self.ended: set[str] = set()  # failed, or stopped, in this call
        self.running: dict[str, Running] = {}
        self.stop_asked = 0

    def run(self, on_tick: Callable[["LocalStudy"], None]) -> int:
        """Work until nothing is left to start; return 0, 1 when something failed, 75 when stopped."""
        names = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        previous = {name: signal.signal(name, self.ask_to_stop) for name in names}
        try:
            while True:
                self.look_at_running()
                if not self.stop_asked:
                    self.start_what_fits()
                on_tick(self)
                if not self.running:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            self.kill_all()
            for name, handler in previous.items():
                signal.signal(name, handler)
        if self.stop_asked:
            return STOPPED_EARLY
        return 0 if len(self.done) == len(self.tasks) else 1

    def ask_to_stop(self, number, frame) -> None:
        """Have all tasks save and leave; a second signal kills them."""
        self.stop_asked += 1
        for running in self.running.values():
            running.process.send_signal(signal.SIGTERM if self.stop_asked == 1 else signal.SIGKILL)

    def start_what_fits(self) -> None:
        """Start tasks whose needs are done, in the study's order, while the machine has room."""
        for name, task in self.tasks.items():
            if name in self.done or name in self.ended or name in self.running or not self.done.issuperset(task.needs):
                continue
            given = self.machine.take(name, task.recipe, task.ranks if task.is_training else 1)
            if given is None:
                return  # in order: what waits first starts first
            self.folder.logs.mkdir(parents=True, exist_ok=True)
            log = open(self.folder.log(name), "ab")  # noqa: SIM115 - open as long as the task
            first, *rest = task.commands
            self.running[name] = Running(task, self.start(first, given, log), log, rest, given)
            self.note(name, state="running", error=None, exit_code=None)

    def start(self, words: tuple[str, ...], given: dict, log: IO) -> subprocess.Popen:
        """Start one codemix command on what the machine gave it, in a session of its own."""
        environment = {key: value for key, value in os.environ.items() if key not in LAUNCHER_VARIABLES}
        if "gpus" in given:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(given["gpus"])
        log.write(f"$ codemix {' '.join(words)}\n".encode())
        log.flush()

        here = os.getpid()

        def settle() -> None:
            end_with_parent(here)
            if "cores" in given:
                os.sched_setaffinity(0, given["cores"])

        return subprocess.Popen(
            command_line(words), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            preexec_fn=settle,
        )  # fmt: skip

    def look_at_running(self) -> None:
        """Take note of what has ended, and start next commands of tasks that go on."""
        for name, running in list(self.running.items()):
            code = running.process.poll()
            if code is None:
                continue
            if code == 0 and running.rest and not self.stop_asked:
                running.process = self.start(running.rest.pop(0), running.given, running.log)
                continue
            running.log.close()
            del self.running[name]
            self.machine.give_back(name)
            self.take_note(running.task, code)

    def take_note(self, task: Task, code: int) -> None:
        """Write down how a task ended; what its run folder holds decides whether it is done."""
        if code == 0 and is_done(task, self.folder):
            self.done.add(task.name)
            self.note(task.name, state="done", exit_code=0)
        elif code == STOPPED_EARLY or self.stop_asked:
            self.ended.add(task.name)
            self.note(task.name, state="stopped", exit_code=code)
        else:
            self.ended.add(task.name)
            self.note(task.name, state="failed", exit_code=code, error=said_last(self.folder.log(task.name)) or f"exit code {code}")

    def note(self, name: str, **values) -> None:
        """Write a task's entry of study.json."""
        entry = self.state["tasks"].setdefault(name, {})
        entry.update(values, at=datetime.now(UTC).isoformat(timespec="seconds"))
        self.folder.write(self.state)

    def kill_all(self) -> None:
        """Leave nothing running, whatever happened here; each task's ranks die with its command."""
        for running in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                running.process.kill()
            running.process.wait()
            running.log.close()


def said_last(log: Path) -> str:
    """Return the last error a log holds: from its `error:` on, else its last line."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    lines = [line for line in lines if line.strip() and not line.startswith("$ codemix ")]
    errors = [i for i, line in enumerate(lines) if line.startswith("codemix ") and " error: " in line]
    if not errors:
        return lines[-1].strip() if lines else ""
    return " ".join(line.strip() for line in [lines[errors[-1]].split(" error: ", 1)[1], *lines[errors[-1] + 1 :]])[:400]
