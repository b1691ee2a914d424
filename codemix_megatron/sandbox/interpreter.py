"""The Python that runs programs in a sandbox."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codemix_megatron.errors import SandboxError

__all__ = ["Interpreter", "find_interpreter"]


SAY_WHERE = "import os, sys; print(os.path.abspath(sys.executable), sys.version.split()[0], sys.prefix, sys.base_prefix, sep='\\n')"


@dataclass(frozen=True)
class Interpreter:
    """A Python that runs the programs, and the files and folders it must see."""

    path: str
    version: str
    paths: tuple[str, ...]
    options: tuple[str, ...]


@cache
def find_interpreter(python: str | None = None) -> Interpreter:
    """Return the interpreter at `python` with its packages, or this one's base with the standard library alone."""
    path: str = python or getattr(sys, "_base_executable", None) or sys.executable
    try:
        done = subprocess.run([path, "-c", SAY_WHERE], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as fault:
        raise SandboxError(f"{path}: not a Python that runs ({fault}); give the path of one", exit_code=2) from None
    executable, version, *prefixes = done.stdout.splitlines()
    resolved = str(Path(executable).resolve())
    seen = {str(Path(prefix).resolve()) for prefix in prefixes} | {resolved}
    if "/" in seen:
        raise SandboxError(
            f"{path}: its prefix is the root folder, so programs would see this whole machine; give another Python", exit_code=2
        )
    outermost = tuple(p for p in sorted(seen) if not any(Path(p).is_relative_to(other) for other in {"/usr", *seen} - {p} | {"/usr"}))
    # A virtual environment is known by the name it is called by; any other name may be a link from where nothing is seen.
    is_virtual = len(set(prefixes)) > 1
    named = str(Path(executable).parent.resolve() / Path(executable).name)  # the environment itself may be a link
    return Interpreter(named if is_virtual else resolved, version, outermost, () if python else ("-S",))
