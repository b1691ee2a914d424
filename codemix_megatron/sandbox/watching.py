"""Following one running program: what it prints and answers, how long it runs, what it holds, how it ended."""

import json
import os
import select
import selectors
import signal
import subprocess
import time
from typing import IO, cast

from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox.control_groups import ControlGroup
from codemix_megatron.sandbox.outcome import Limits, Outcome, Status
from codemix_megatron.sandbox.process_tree import children, descendants, socket_bytes, usage

__all__ = ["Watch"]

START_SECONDS = 60.0  # for the namespaces and the interpreter, on a busy machine
END_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.05
ANSWER_BYTES = 64 << 10
HOLDERS = 2  # the processes that hold the sandbox
LENGTH = "%016x"


class Watch:
    """Follows one running program: what it prints and answers, how long it runs, what it holds."""

    def __init__(self, process: subprocess.Popen, answers, requests: tuple[dict, dict], limits: Limits, name: str):
        self.process, self.limits, self.name = process, limits, name
        self.signed = json.dumps([requests[1]["secret"]]).removesuffix("]").encode()  # what a line of the sandbox's own begins with
        self.keeps_apart = bool(requests[0]["filter"])
        self.holders = HOLDERS + bool(requests[0]["modules"])
        self.asked = memoryview(b"".join((LENGTH % len(data)).encode() + data for data in (json.dumps(r).encode() for r in requests)))
        self.stdout, self.stderr, self.answers = bytearray(), bytearray(), bytearray()
        self.pipes = {
            process.stdout: (self.stdout, limits.output_bytes),
            process.stderr: (self.stderr, limits.output_bytes),
            answers: (self.answers, ANSWER_BYTES),
        }
        self.started_at = time.monotonic()
        self.ready_at: float | None = None
        self.inside: int | None = None  # a process in the sandbox's network namespace
        self.first: int | None = None  # descriptor of the sandbox's first process, with which all others end
        self.group = ControlGroup(limits) if self.keeps_apart else None

    def follow(self) -> Outcome:
        """Return how the program ended; whatever happens here, it does not run on."""
        try:
            passed_limit = self.watch()
        finally:
            self.kill()
            passed_memory = self.leave_group()
        self.read_rest()
        passed_limit = passed_memory or passed_limit
        seconds = time.monotonic() - (self.ready_at or self.started_at)
        status, message, assertions = (*passed_limit, 0) if passed_limit else self.verdict()
        stdout, stderr = (bytes(kept).decode("utf-8", "replace") for kept in (self.stdout, self.stderr))
        return Outcome(status=status, message=message, stdout=stdout, stderr=stderr, seconds=seconds, assertions=assertions)

    def watch(self) -> tuple[Status, str] | None:
        """Serve the pipes until the program has ended; return the limit that it passed, if one."""
        looked_at = 0.0
        assert self.process.stdin is not None
        with selectors.DefaultSelector() as selector, open(os.pidfd_open(self.process.pid), "rb", buffering=0) as ended:
            selector.register(ended, selectors.EVENT_READ)
            for pipe in (self.process.stdin, *self.pipes):
                os.set_blocking(pipe.fileno(), False)
            for pipe in self.pipes:
                selector.register(pipe, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(LOOK_EVERY_SECONDS):
                    if key.fileobj is ended:
                        return None
                    if not (self.write() if key.fileobj is self.process.stdin else self.read(key.fileobj)):
                        selector.unregister(key.fileobj)
                        cast("IO[bytes]", key.fileobj).close()
                if self.first is None and self.answers.startswith(b"waiting\n"):
                    self.first = self.first_process()
                    if self.group:
                        self.group.take(descendants(self.process.pid))
                    selector.register(self.process.stdin, selectors.EVENT_WRITE)
                now = time.monotonic()
                if now - looked_at >= LOOK_EVERY_SECONDS:
                    looked_at = now
                    if passed := self.limit_passed(now):
                        return passed

    def first_process(self) -> int:
        """Return a descriptor of the sandbox's first process; it waits for the request, so it is there unless somebody kills it."""
        try:
            inside = children(self.process.pid)[0]
            first = os.pidfd_open(inside)
            self.inside = inside if self.keeps_apart else None
            return first
        except (OSError, IndexError):
            return os.pidfd_open(self.process.pid)

    def write(self) -> bool:
        """Hand over what the pipe takes of the request; False when nothing is left to do."""
        assert self.process.stdin is not None
        try:
            self.asked = self.asked[os.write(self.process.stdin.fileno(), self.asked) :]
        except BrokenPipeError:
            return False
        return bool(self.asked)

    def read(self, pipe) -> bool:
        """Take what one pipe holds, keep what fits; False when it is closed."""
        data = os.read(pipe.fileno(), 1 << 16)
        kept, most = self.pipes[pipe]
        kept += data[: most - len(kept)]
        if self.ready_at is None and self.verdicts():
            self.ready_at = time.monotonic()
        return bool(data)

    def read_rest(self) -> None:
        """Take what the pipes still hold after the end."""
        for pipe, (kept, most) in self.pipes.items():
            try:
                while not pipe.closed and len(kept) < most and self.read(pipe):
                    pass
            except BlockingIOError:
                pass  # a process outside a sandbox may have left a child that holds it open

    def kill(self) -> None:
        """End the process and its group, and wait until all that lived in its sandbox is gone."""
        if self.process.returncode is None:  # not waited for yet, so its number is nobody else's
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.first is not None:
            select.select([self.first], [], [], END_SECONDS)  # bubblewrap leaves before its sandbox has ended
            os.close(self.first)

    def leave_group(self) -> tuple[Status, str] | None:
        """Remove the control group; return the limit of memory when the kernel had to hold it."""
        if self.group is None:
            return None
        ran_out = self.group.ran_out_of_memory()
        self.group.remove()
        if not ran_out:
            return None
        return Status.MEMORY, f"its processes held more than {self.limits.memory_bytes >> 20} MiB together, and the kernel ended one"

    def limit_passed(self, now: float) -> tuple[Status, str] | None:
        """Return the limit the program is beyond, or None; raises SandboxError when it has not started for long."""
        if self.ready_at is None:
            if now - self.started_at > START_SECONDS:
                raise SandboxError(f"{self.name}: no program started within {START_SECONDS:.0f} s; the machine may be overloaded")
            return None
        if now - self.ready_at > self.limits.seconds:
            return Status.TIMEOUT, f"not done after {self.limits.seconds:g} s"
        processes, memory = usage(self.process.pid)
        memory += socket_bytes(self.inside) if self.inside else 0
        if memory > self.limits.memory_bytes:
            return Status.MEMORY, f"its processes held {memory >> 20} MiB together, allowed are {self.limits.memory_bytes >> 20}"
        if processes > self.limits.processes + self.holders:
            return Status.PROCESSES, f"{processes - self.holders} processes, allowed are {self.limits.processes}"
        return None

    def verdicts(self) -> list[tuple[Status, str, int] | None]:
        """Return the answers so far that carry the secret: (status, message, assertions), None for one that says it is ready.

        Other lines are the program's, and are not even parsed.
        """
        found: list[tuple[Status, str, int] | None] = []
        for line in bytes(self.answers).split(b"\n")[:-1]:
            if line.startswith(self.signed):
                try:
                    _, status, message, assertions = json.loads(line)
                    found.append(None if status == "ready" else (Status(status), str(message), int(assertions)))
                except (ValueError, TypeError, RecursionError):
                    found.append((Status.CRASH, "it sent an invalid answer", 0))
        return found

    def verdict(self) -> tuple[Status, str, int]:
        """Return status, reason and assertions of a program that ended by itself; raises SandboxError when it was never started."""
        told, code = self.verdicts(), self.process.returncode
        if not told:
            why = bytes(self.stderr).decode("utf-8", "replace").strip() or f"exit code {code}"
            raise SandboxError(f"{self.name}: did not start: {why}")
        return told[-1] or (*self.ending(code), 0)

    def ending(self, code: int) -> tuple[Status, str]:
        """Return how a program ended that gave no answer."""
        number = -code if code < 0 else code - 128  # bubblewrap tells signals as a shell does
        if number == signal.SIGXCPU:
            return Status.TIMEOUT, f"used more than {self.limits.whole_cpu_seconds} s of processor time"
        if number > 0:
            return Status.CRASH, f"killed by {signal.Signals(number).name if number in set(signal.Signals) else f'signal {number}'}"
        return Status.EXIT, f"left with code {code} before its end"
