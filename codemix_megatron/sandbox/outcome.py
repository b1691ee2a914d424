"""What a program may use, and how its run ended."""

import math
from dataclasses import dataclass
from enum import StrEnum

from codemix_megatron.errors import SandboxError

__all__ = ["Limits", "Outcome", "Status"]

MEBIBYTE = 1 << 20


class Status(StrEnum):
    """How a run ended."""

    PASSED = "passed"  # the last line was reached
    WRONG = "wrong"  # an assertion failed
    SYNTAX_ERROR = "syntax error"
    EXCEPTION = "exception"  # any other exception
    EXIT = "exit"  # it left before its end, as sys.exit() does, so that its tests did not all run
    TIMEOUT = "timeout"
    MEMORY = "memory"
    PROCESSES = "processes"
    UNTESTED = "untested"  # its tests did not run, or pass whatever it answers
    CRASH = "crash"  # killed by a signal, as by a fault in native code


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use; `memory_bytes` holds for each process and for all of them together."""

    seconds: float = 10.0  # by the clock
    cpu_seconds: float | None = None  # of each process's own processor time; None: a little more than `seconds`
    memory_bytes: int = 1024 * MEBIBYTE
    processes: int = 32  # threads count
    scratch_bytes: int = 64 * MEBIBYTE  # of files, in memory, beyond memory_bytes
    output_bytes: int = 64 << 10  # kept of stdout and of stderr; the rest is read and dropped

    def __post_init__(self):
        for name, least in (("seconds", 0.01), ("memory_bytes", 64 * MEBIBYTE), ("processes", 1), ("scratch_bytes", 4096)):
            if getattr(self, name) < least:
                raise SandboxError(f"{name}: found {getattr(self, name)}, must be at least {least}", exit_code=2)
        if self.cpu_seconds is not None and self.cpu_seconds < 1:
            raise SandboxError(f"cpu_seconds: found {self.cpu_seconds}, must be at least 1", exit_code=2)

    @property
    def whole_cpu_seconds(self) -> int:
        """The processor time that the kernel, which counts whole seconds, allows each process."""
        return int(self.seconds) + 2 if self.cpu_seconds is None else math.ceil(self.cpu_seconds)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one program ended and what it printed (its first `output_bytes`)."""

    status: Status
    message: str = ""  # one line: which exception, signal or limit
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    assertions: int = 0  # executed by its tests, counted in their own process

    @property
    def passed(self) -> bool:
        """Say whether the program reached its end."""
        return self.status == Status.PASSED
