"""Running one program in a sandbox: start it, watch it, end it, say how it ended."""

import base64
import os
import secrets
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox.handed_over import handed_over
from codemix_megatron.sandbox.interpreter import Interpreter, find_interpreter
from codemix_megatron.sandbox.isolation import Isolation, isolations
from codemix_megatron.sandbox.namespaces import SCRATCH
from codemix_megatron.sandbox.outcome import Limits, Outcome
from codemix_megatron.sandbox.system_calls import seccomp_filter
from codemix_megatron.sandbox.watching import Watch

__all__ = ["Sandbox", "find_sandbox", "run_python"]

SYS_ADMIN = 21  # the capability to make namespaces
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
