"""One node's part of `codemix launch --stage`: `python -m codemix_megatron.launch.slurm.unpacking ARCHIVE FOLDER PYTHON`.

Unpacks the archive into FOLDER, on a disk of the node's own, unless an earlier start has; then says in one line of JSON how long that took and,
on the first node, how long imports take from there and from where they came from. Needs no package but the standard library.
"""

import contextlib
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

from codemix_megatron.errors import LaunchError, machine_fault
from codemix_megatron.placement import node_name

__all__ = ["main", "staged_python", "unpack"]

COMPLETE = ".complete"
WAIT_SECONDS = 1800.0  # for another job that unpacks the same here
KEPT_DAYS = 7  # environments that no start has used for so long are removed
ROOM = 1.05  # of the archive's size, that has to be free
IMPORTS = "import codemix_megatron.train.run"


def main(words: list[str] | None = None) -> int:
    """Unpack on this node and say what came of it."""
    archive, folder, python = sys.argv[1:] if words is None else words
    try:
        seconds = unpack(Path(archive), Path(folder))
        told = {"node": node_name(), "seconds": seconds, "bytes": os.path.getsize(archive)}
        if seconds is not None and os.environ.get("SLURM_NODEID", "0") == "0":
            told |= {"there": seconds_to_import(python, None), "here": seconds_to_import(staged_python(Path(folder)), Path(folder))}
    except (LaunchError, OSError) as fault:
        sys.stderr.write(f"{node_name()}: {machine_fault(fault) if isinstance(fault, OSError) else fault}\n")
        return 1
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def staged_python(folder: Path) -> str:
    """Return the interpreter of an unpacked environment."""
    return str(folder / "environment" / "bin" / "python")


def unpack(archive: Path, folder: Path) -> float | None:
    """Unpack an archive and return the seconds it took, None where it was there; raises LaunchError where nothing can be put there safely."""
    own_folder(folder.parent)
    with locked(folder.with_suffix(".lock")):
        if (folder / COMPLETE).is_file():
            os.utime(folder / COMPLETE)
            return None
        began = time.monotonic()
        remove_old(folder)
        if shutil.disk_usage(folder.parent).free < ROOM * archive.stat().st_size:
            raise LaunchError(
                f"{folder.parent}: no room for {archive.stat().st_size >> 20} MiB; name another stage_directory in the site file"
            )
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        done = subprocess.run(
            ["tar", "--extract", f"--file={archive}", f"--directory={partial}"], capture_output=True, text=True, timeout=WAIT_SECONDS
        )
        if done.returncode:
            raise LaunchError(f"{archive}: cannot be unpacked ({' '.join(done.stderr.split())[-300:]})")
        (partial / COMPLETE).touch()
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        return round(time.monotonic() - began, 2)


def own_folder(folder: Path) -> None:
    """Make a folder for this user alone; raises LaunchError for one that somebody else made or could change, as in a shared /tmp."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    state = os.lstat(folder)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise LaunchError(f"{folder}: is not a folder that this user alone can write; ranks would run what others put there. Remove it")


@contextlib.contextmanager
def locked(path: Path):
    """Hold a lock file, waiting for who holds it."""
    with open(path, "a") as handle:
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise LaunchError(f"{path}: another job has unpacked for {WAIT_SECONDS:.0f} s and is not done") from None
                time.sleep(0.2)
        yield


def remove_old(folder: Path) -> None:
    """Remove environments beside this one that nobody has used for days."""
    for complete in folder.parent.glob(f"*/{COMPLETE}"):
        if complete.parent != folder and time.time() - complete.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(complete.parent, ignore_errors=True)


def seconds_to_import(python: str, folder: Path | None) -> float:
    """Return how long a rank's imports take with an interpreter; infinite where they fail."""
    path = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, (str(folder), path)))} if folder else dict(os.environ)
    began = time.monotonic()
    done = subprocess.run([python, "-c", IMPORTS], env=environment, capture_output=True, timeout=WAIT_SECONDS)
    return round(time.monotonic() - began, 2) if done.returncode == 0 else float("inf")


if __name__ == "__main__":
    sys.exit(main())
