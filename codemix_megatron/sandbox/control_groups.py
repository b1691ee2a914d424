"""A control group for each program where this process may make one: the kernel then counts memory and processes without a gap.

What it counts is what limits of one process do not: all processes together, the kernel's buffers for their sockets, files in memory. Of each of
the two controllers the hierarchy is found by itself, for machines mix them: version 2 where a folder was delegated to us (systemd's
`Delegate=yes`, a container's own), version 1 where we may write. Where there is neither, limits of processes and a look every 50 ms stay alone.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codemix_megatron.sandbox.outcome import Limits

__all__ = ["ControlGroup", "Hierarchy", "find_hierarchies"]

CONTROLLERS = ("memory", "pids")
OURS, MAIN = "codemix-", "codemix-main"  # groups of programs; where this process goes in a delegated folder
HOLDERS = 6  # processes that hold the sandbox, besides those of the program
REMOVE_SECONDS = 2.0
numbers = itertools.count()


@dataclass(frozen=True)
class Hierarchy:
    """Where groups of one controller are made."""

    controller: str
    folder: Path
    version: int


@cache
def find_hierarchies() -> tuple[Hierarchy, ...]:
    """Return where groups for programs can be made on this machine; empty where nothing is ours."""
    try:
        mounts, own = Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
    except OSError:
        return ()
    found = [h for name in CONTROLLERS if (h := hierarchy_of(name, mounts, own))]
    return tuple(h for h in found if may_make_groups(h))


def hierarchy_of(controller: str, mounts: str, own: str) -> Hierarchy | None:
    """Return the hierarchy that has a controller, as /proc/self/mountinfo and /proc/self/cgroup describe them."""
    paths = {kind: path for _, kind, path in (line.split(":", 2) for line in own.splitlines())}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, mounted = before.split()[3:5]
        kind, _, options = [*after.split(" ", 2), "", ""][:3]
        if kind == "cgroup" and controller in options.split(","):
            path = next((path for kinds, path in paths.items() if controller in kinds.split(",")), None)
            version = 1
        elif kind == "cgroup2":
            path, version = paths.get(""), 2
        else:
            continue
        if path is None or os.path.relpath(path, root).startswith(".."):
            continue
        folder = Path(mounted) / os.path.relpath(path, root)
        folder = folder.parent if folder.name == MAIN else folder
        if version == 1 or controller in words_of(folder / "cgroup.controllers"):
            return Hierarchy(controller, folder, version)
    return None


def words_of(path: Path) -> list[str]:
    """Return the words of a control file; none where it cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []


def may_make_groups(hierarchy: Hierarchy) -> bool:
    """Say whether a group made here counts what its controller counts; removes what killed processes have left there."""
    folder = hierarchy.folder
    try:
        if hierarchy.version == 2 and hierarchy.controller not in words_of(folder / "cgroup.subtree_control") and not delegated(folder):
            return False
        for left in folder.glob(f"{OURS}[0-9]*"):
            if not Path("/proc", left.name.removeprefix(OURS).partition("-")[0]).exists():
                with contextlib.suppress(OSError):
                    left.rmdir()
        probe = folder / f"{OURS}{os.getpid()}-probe"
        probe.mkdir()
        try:
            return (probe / limit_file(hierarchy)).exists()
        finally:
            probe.rmdir()
    except OSError:
        return False


def delegated(folder: Path) -> bool:
    """Have a delegated folder's controllers count in groups below it; return False for a folder that nobody gave us.

    A folder with processes in it has no such groups below (the kernel's rule), so those in it, ours, move into one first. systemd marks what it
    delegates; what is not marked, as the session of a login or another service's, is left as it is.
    """
    if not is_marked(folder):
        return False
    main = folder / MAIN
    main.mkdir(exist_ok=True)
    for process in words_of(folder / "cgroup.procs"):
        (main / "cgroup.procs").write_text(process)
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in CONTROLLERS))
    return True


def is_marked(folder: Path) -> bool:
    """Say whether a folder is marked as delegated."""
    for mark in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, mark) == b"1":
                return True
    return False


def limit_file(hierarchy: Hierarchy) -> str:
    """Return the name of the file that holds a group's limit."""
    return "memory.limit_in_bytes" if (hierarchy.controller, hierarchy.version) == ("memory", 1) else f"{hierarchy.controller}.max"


class ControlGroup:
    """The group of one program, in each hierarchy there is; none of its calls fails, for a program runs without one too."""

    def __init__(self, limits: Limits, hierarchies: tuple[Hierarchy, ...] | None = None):
        name = f"{OURS}{os.getpid()}-{next(numbers)}"
        self.groups: list[tuple[Path, Hierarchy]] = []  # of version 2 both controllers have one folder
        for hierarchy in find_hierarchies() if hierarchies is None else hierarchies:
            folder = hierarchy.folder / name
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
                self.groups.append((folder, hierarchy))
                self.set_limits(folder, hierarchy, limits)

    @property
    def folders(self) -> set[Path]:
        """Its folders."""
        return {folder for folder, _ in self.groups}

    def set_limits(self, folder: Path, hierarchy: Hierarchy, limits: Limits) -> None:
        """Write the limits: of memory with the folders that a program has in it, so that no program within its limits meets this one."""
        if hierarchy.controller == "pids":
            (folder / "pids.max").write_text(str(limits.processes + HOLDERS))
            return
        (folder / limit_file(hierarchy)).write_text(str(limits.memory_bytes + 2 * limits.scratch_bytes))
        with contextlib.suppress(OSError):  # where the kernel does not count swap there is no such file
            (folder / ("memory.swap.max" if hierarchy.version == 2 else "memory.swappiness")).write_text("0")

    def take(self, processes: Iterable[int]) -> None:
        """Count these processes, and all that they start from here on, to the group."""
        processes = list(processes)
        for folder in self.folders:
            for process in processes:
                with contextlib.suppress(OSError):
                    (folder / "cgroup.procs").write_text(str(process))

    def ran_out_of_memory(self) -> bool:
        """Say whether the kernel killed one of its processes for their memory."""
        for folder, hierarchy in self.groups:
            if hierarchy.controller == "memory":
                words = words_of(folder / ("memory.events" if hierarchy.version == 2 else "memory.oom_control"))
                killed = dict(zip(words[::2], words[1::2], strict=False)).get("oom_kill", "0")
                return killed != "0"
        return False

    def remove(self) -> None:
        """Remove it; its processes have ended, and the kernel may need a moment to let go of the last one."""
        until = time.monotonic() + REMOVE_SECONDS
        for folder in self.folders:
            while True:
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > until:
                        break  # may_make_groups removes it one day
                    time.sleep(0.002)
