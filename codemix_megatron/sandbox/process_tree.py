"""What a process and all it started hold, read from /proc."""

import os

__all__ = ["children", "usage"]

PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def usage(pid: int) -> tuple[int, int]:
    """Return processes (threads count) and resident bytes of `pid` and everything below it."""
    tasks, resident, waiting = 0, 0, [pid]
    while waiting:
        pid = waiting.pop()
        folder = f"/proc/{pid}"
        try:
            with open(f"{folder}/statm", "rb") as handle:
                resident += int(handle.read().split()[1]) * PAGE_BYTES
            tasks += len(os.listdir(f"{folder}/task"))
            waiting += children(pid)
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
    return tasks, resident


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started and those it took over."""
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as handle:
            found += [int(word) for word in handle.read().split()]
    return found
