"""Running one program in a sandbox: start it, watch it, end it, say how it ended."""

import base64
import json
import os
import secrets
import select
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import IO, cast

from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox.control_groups import ControlGroup
from codemix_megatron.sandbox.handed_over import handed_over
from codemix_megatron.sandbox.interpreter import Interpreter, find_interpreter
from codemix_megatron.sandbox.isolation import Isolation, isolations
from codemix_megatron.sandbox.namespaces import SCRATCH
from codemix_megatron.sandbox.outcome import Limits, Outcome, Status
from codemix_megatron.sandbox.process_tree import children, descendants, socket_bytes, usage
from codemix_megatron.sandbox.system_calls import seccomp_filter

__all__ = ["Sandbox", "find_sandbox", "run_python"]

START_SECONDS = 60.0  # for the namespaces and the interpreter, on a busy machine
END_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.05
ANSWER_BYTES = 64 << 10
SYS_ADMIN = 21  # the capability to make namespaces
HOLDERS = 2  # the processes that hold the sandbox
LENGTH = "%016x"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER_NAMESPACE_SWITCHES = {
    "/proc/sys/user/max_user_namespaces": "0",
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
}
INSIDE = Path(__file__).with_name("inside.py")


def run_python(code: str, limits: Limits | None = None, sandbox: "Sandbox | None" = None) -> Outcome:
    """Run a Python program apart from this machine and return how it ended; it passed when its last line was reached.

    It sees the system and its interpreter read-only, no network, no other process and none of your files, and has an
    empty scratch folder in memory. Safe to call from several threads. Raises SandboxError where nothing can keep it apart.
    """
    return (sandbox or find_sandbox()).run(code, limits or Limits())


class Sandbox:
    """An interpreter and a way to keep its programs apart."""

    def __init__(self, isolation: Isolation, interpreter: Interpreter):
        self.isolation, self.interpreter = isolation, interpreter
        self.source = INSIDE.read_text(encoding="utf-8")
        self.filter = base64.b64encode(seccomp_filter()).decode() if isolation.keeps_apart else ""

    @property
    def description(self) -> str:
        """Say what keeps programs apart, and which Python runs them."""
        return f"{self.isolation.name}, Python {self.interpreter.version}"

    def run(self, code: str, limits: Limits) -> Outcome:
        """Run one program to its end or its limits; nothing of it is left behind. That it passed is its own word."""
        return self.run_request({"code": code}, limits)

    def examine(self, program: str, tests: str | None, limits: Limits, *, entry: str | None = None) -> Outcome:
        """Run a program in one process and its tests in another, which asks it for answers; it passed when they have proved it.

        Without `tests` they are taken out of the program, from its first assertion or test on. `entry` is the function that
        a HumanEval `check(candidate)` is for. Both processes share the limits.
        """
        return self.run_request({"code": program, "tests": tests, "entry": entry}, limits, modules=handed_over(self.interpreter.path))

    def run_request(self, request: dict, limits: Limits, modules: str = "") -> Outcome:
        """Run what a request says in a scratch folder of its own."""
        if self.isolation.keeps_apart:
            return self.run_in(SCRATCH, request, limits, modules)
        with tempfile.TemporaryDirectory(prefix="codemix-") as folder:
            return self.run_in(folder, request, limits, modules)

    def run_in(self, scratch: str, request: dict, limits: Limits, modules: str) -> Outcome:
        """Start the program with `scratch` as its folder and follow it."""
        request = {"secret": secrets.token_hex(16), **request}
        settings = {"scratch": scratch, "user": self.isolation.user(), "filter": self.filter, "resources": self.resources(limits),
                    "modules": modules}  # fmt: skip
        answers, writing = os.pipe()
        try:
            words = self.isolation.command(self.interpreter, limits, ("-c", self.source, str(writing)))
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(writing,), start_new_session=True,
                env=bare_environment(words[0]),
            )  # fmt: skip
        except BaseException:
            os.close(answers)
            raise
        finally:
            os.close(writing)
        with open(answers, "rb", buffering=0) as reading, process:
            return Watch(process, reading, (settings, request), limits, self.isolation.name).follow()

    def resources(self, limits: Limits) -> dict[str, int]:
        """Return the resource limits set inside, by their names in the module `resource`."""
        counted = {"RLIMIT_NPROC": limits.processes} if self.isolation.counts_processes else {}
        return {
            "RLIMIT_AS": limits.memory_bytes,
            "RLIMIT_CPU": limits.whole_cpu_seconds,
            "RLIMIT_FSIZE": limits.scratch_bytes,
            "RLIMIT_NOFILE": 256,
            "RLIMIT_CORE": 0,
            **counted,
        }


def bare_environment(program: str) -> dict[str, str]:
    """Return the environment of the sandbox's first process: every program inside can read it, so none of ours is in it."""
    return {"PATH": f"{os.path.dirname(shutil.which(program) or program)}:{SYSTEM_PATH}"}


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


def find_sandbox(python: str | None = None, *, unsandboxed: bool = False) -> Sandbox:
    """Return the strongest sandbox that works here; raises SandboxError that says what was tried and what to do.

    `python` is the interpreter, with its packages; by default this one's base, with the standard library alone.
    `unsandboxed` asks for none: programs then run as you, with your files and your network, under limits only.
    """
    interpreter = find_interpreter(python)
    if unsandboxed:
        return Sandbox(Isolation("no sandbox"), interpreter)
    return tried_sandbox(interpreter)


@cache
def tried_sandbox(interpreter: Interpreter) -> Sandbox:
    """Return the first sandbox in which a program that does nothing passes."""
    failures = []
    for isolation in isolations():
        try:
            sandbox = Sandbox(isolation, interpreter)
            outcome = sandbox.run("pass", Limits())
        except SandboxError as fault:
            failures.append(str(fault))
            continue
        if outcome.passed:
            return sandbox
        failures.append(f"{isolation.name}: {outcome.status}: {outcome.message}")
    raise SandboxError(refusal(failures))


def has_right(number: int) -> bool:
    """Say whether this process has a capability."""
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(held.split()[1], 16) >> number & 1)


def refusal(failures: list[str]) -> str:
    """Return why programs are not run here and what would change it."""
    if not failures:
        failures = ["neither bubblewrap (bwrap) nor util-linux's unshare, setpriv and pivot_root are installed"]
    lines = ["no sandbox backend works on this machine, so no program is run", *(f"  - {line}" for line in failures)]
    for switch, bad in USER_NAMESPACE_SWITCHES.items():
        try:
            if Path(switch).read_text().strip() == bad:
                lines.append(f"  - {switch} is {bad}: only root makes namespaces here")
        except OSError:
            continue
    if os.geteuid() == 0 and not has_right(SYS_ADMIN):
        lines.append("  - you are root in a container that may not make namespaces; try as another user")
    return "\n".join([*lines, "install bubblewrap, allow user namespaces, or accept the danger with --trust programs"])
