"""The Python that runs programs in a sandbox."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codemix_megatron.errors import SandboxError

__all__ = ["Interpreter", "find_interpreter"]


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
