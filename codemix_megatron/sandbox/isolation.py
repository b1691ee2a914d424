"""How a program is kept apart: bubblewrap, else util-linux's unshare; chosen by trying, never silently absent."""

import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox.outcome import Limits

__all__ = ["Interpreter", "Isolation", "find_interpreter", "isolations"]

SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
SCRATCH = "/tmp"
ENVIRONMENT = {"HOME": SCRATCH, "TMPDIR": SCRATCH, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
               "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # fmt: skip
FIRST_USER, USERS = 2_000_000_000, 100_000_000  # user ids nobody has
PER_NAMESPACE_COUNTS = (5, 14)  # since this Linux, processes are counted per user namespace


@dataclass(frozen=True)
class Interpreter:
    """A Python that runs the programs, and the folders it must see."""

    path: str
    version: str
    folders: tuple[str, ...]
    options: tuple[str, ...]


@cache
def find_interpreter(python: str | None = None) -> Interpreter:
    """Return the interpreter at `python` with its packages, or this one's base with the standard library alone."""
    path = python or getattr(sys, "_base_executable", sys.executable)
    code = "import os, sys; print(os.path.abspath(sys.executable), sys.version.split()[0], sys.prefix, sys.base_prefix, sep='\\n')"
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as fault:
        raise SandboxError(f"{path}: not a Python that runs ({fault}); give the path of one", exit_code=2) from None
    executable, version, *prefixes = done.stdout.splitlines()
    folders = dict.fromkeys(str(Path(p).resolve()) for p in (*prefixes, Path(executable).resolve().parent))
    outermost = tuple(f for f in folders if not any(Path(f).is_relative_to(g) for g in {"/usr", *folders} - {f} | {"/usr"}))
    return Interpreter(executable, version, outermost, () if python else ("-S",))


@dataclass(frozen=True)
class Isolation:
    """One way to run a program apart; `name` is what is printed and recorded."""

    name: str
    prefix: tuple[str, ...]  # of the command that makes the namespaces
    takes_user: bool  # the program gets a user id of its own
    counts_processes: bool  # RLIMIT_NPROC counts this sandbox alone

    def command(self, interpreter: Interpreter, limits: Limits, arguments: tuple[str, ...]) -> list[str]:
        """Return the words that run the interpreter with `arguments` inside."""
        inner = [interpreter.path, "-s", "-B", *interpreter.options, *arguments]
        if not self.prefix:
            return inner
        return [*self.prefix, *bubblewrap_view(interpreter, limits), "--", *inner]

    def user(self) -> int:
        """Return a user id for one run, 0 for none."""
        return FIRST_USER + secrets.randbelow(USERS) if self.takes_user else 0


def bubblewrap_view(interpreter: Interpreter, limits: Limits) -> list[str]:
    """Return bubblewrap's arguments for what can be seen: system and interpreter read-only, files in memory."""
    words = ["--ro-bind", "/usr", "/usr"]
    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            words += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            words += ["--ro-bind", folder, folder]
    for path in SYSTEM_FILES:
        words += ["--ro-bind-try", path, path]
    for folder in interpreter.folders:
        for parent in reversed(Path(folder).parents[:-1]):  # bubblewrap would make them for their owner alone
            words += ["--perms", "0755", "--dir", str(parent)]
        words += ["--ro-bind", folder, folder]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", SCRATCH):
        words += ["--perms", "1777", "--size", str(limits.scratch_bytes), "--tmpfs", folder]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SCRATCH, "--clearenv"]
    for name, value in ENVIRONMENT.items():
        words += ["--setenv", name, value]
    return words


def isolations() -> list[Isolation]:
    """Return the ways this user could have here, the strongest first; whether they work is for a trial to say."""
    found = []
    per_namespace = tuple(int(word) for word in os.uname().release.split(".")[:2]) >= PER_NAMESPACE_COUNTS
    if bubblewrap := shutil.which("bwrap"):
        apart = (bubblewrap, "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
                 "--unshare-cgroup-try")  # fmt: skip
        if os.geteuid() == 0:
            rights = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_CHOWN")
            found.append(Isolation("bubblewrap as root", apart + rights, takes_user=True, counts_processes=True))
        counted = per_namespace and os.geteuid() != 0  # the kernel never counts root's
        found.append(Isolation("bubblewrap", (*apart, "--unshare-user", "--cap-drop", "ALL"), takes_user=False, counts_processes=counted))
    return found
