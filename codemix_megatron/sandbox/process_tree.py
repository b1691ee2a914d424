"""What a process and all it started hold, read from /proc."""

import os

__all__ = ["children", "descendants", "socket_bytes", "usage"]

PAGE_BYTES = os.sysconf("SC_PAGESIZE")
UNIX_SOCKET_BYTES = 208 << 10  # what the kernel lets wait in one, as it comes


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


def descendants(pid: int) -> list[int]:
    """Return all that a process and what it started have started."""
    found = []
    waiting = [pid]
    while waiting:
        try:
            below = children(waiting.pop())
        except OSError:
            continue  # it has just ended
        found += below
        waiting += below
    return found


def socket_bytes(pid: int) -> int:
    """Return what the kernel may hold for the sockets of a process's network namespace, which no limit of a process counts."""
    try:
        with open(f"/proc/{pid}/net/sockstat", "rb") as handle:
            total = int(handle.readline().split()[2]) * UNIX_SOCKET_BYTES
        for name in ("tcp", "tcp6"):
            with open(f"/proc/{pid}/net/{name}", "rb") as handle:
                for line in handle.readlines()[1:]:
                    waiting, _, unread = line.split()[4].partition(b":")
                    total += int(waiting, 16) + int(unread, 16)
    except (OSError, ValueError, IndexError):
        return 0  # it has just ended
    return total
