"""The ranks' environment packed into one file, for every node to unpack on its own disk: thousands of small files read once, not by each rank.

The file lies beside the runs (.staged/DIGEST.tar) and is made again only when something in the environment has changed. It holds environment/, the
virtual (or conda) environment of the ranks' Python, and codemix_megatron/ as it is where the job is submitted.
"""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.errors import LaunchError

__all__ = ["Environment", "find_environment", "pack"]

SYSTEM = ("/", "/usr", "/usr/local")
SAY_WHERE = "import os, sys, codemix_megatron; print(sys.prefix, os.path.dirname(codemix_megatron.__file__), sep='\\n')"
PACK_SECONDS = 3600


@dataclass(frozen=True)
class Environment:
    """What ranks import, and the file it is packed into."""

    prefix: Path
    package: Path
    archive: Path


def find_environment(python: str, folder: Path) -> Environment:
    """Return the environment of a Python and where in `folder` its archive belongs; raises LaunchError for one that is no environment."""
    try:
        done = subprocess.run([python, "-c", SAY_WHERE], capture_output=True, text=True, timeout=120, check=True)
    except (OSError, subprocess.SubprocessError) as fault:
        said = (getattr(fault, "stderr", "") or "").strip().splitlines()[-1:] or [str(fault)]
        raise LaunchError(f"--stage: {python} cannot say what it imports ({said[0]}); is the site's python right?", exit_code=2) from None
    prefix, package = map(Path, done.stdout.splitlines())
    if str(prefix) in SYSTEM:
        raise LaunchError(
            f"--stage: {python} is the system's own Python in {prefix}, which every node has; give the site a python of a virtual environment",
            exit_code=2,
        )
    return Environment(prefix, package, folder / f"{digest_of(prefix, package)}.tar")


def digest_of(*folders: Path) -> str:
    """Return a digest of the names, sizes and times of all files below some folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for parent, names, files in os.walk(folder):
            names.sort()
            for name in sorted(files):
                state = os.lstat(os.path.join(parent, name))
                digest.update(
                    f"{os.path.relpath(parent, folder)}/{name} {state.st_size} {state.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
                )
    return digest.hexdigest()[:16]


def pack(environment: Environment) -> bool:
    """Write the archive unless it is there; return whether it was written. Whatever ends this in between leaves none."""
    if environment.archive.is_file():
        return False
    environment.archive.parent.mkdir(parents=True, exist_ok=True)
    partial = environment.archive.with_suffix(f".{os.getpid()}.partial")
    words = ["tar", "--create", f"--file={partial}", "--transform=flags=r;s,^\\./,environment/,", f"--directory={environment.prefix}", "."]
    words += [f"--directory={environment.package.parent}", environment.package.name]
    try:
        subprocess.run(words, capture_output=True, text=True, timeout=PACK_SECONDS, check=True)
        os.replace(partial, environment.archive)
    except (OSError, subprocess.SubprocessError) as fault:
        said = (getattr(fault, "stderr", "") or str(fault)).strip().splitlines()[-1:]
        raise LaunchError(f"--stage: {environment.prefix} cannot be packed into {environment.archive} ({' '.join(said)})") from None
    finally:
        partial.unlink(missing_ok=True)
    return True
