"""What a process and all it started hold, read from /proc."""

import os

__all__ = ["usage"]

PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def usage(pid: int) -> tuple[int, int]:
    """Return processes (threads count) and resident bytes of `pid` and everything below it."""
    tasks, resident, waiting = 0, 0, [pid]
    while waiting:
        folder = f"/proc/{waiting.pop()}"
        try:
            threads = os.listdir(f"{folder}/task")
            with open(f"{folder}/statm", "rb") as handle:
                resident += int(handle.read().split()[1]) * PAGE_BYTES
            for thread in threads:
                with open(f"{folder}/task/{thread}/children", "rb") as handle:
                    waiting += [int(word) for word in handle.read().split()]
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
        tasks += len(threads)
    return tasks, resident
