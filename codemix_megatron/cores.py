"""How many cores this process may use."""

import os

__all__ = ["available_cores"]


def available_cores() -> int:
    """Return the cores this process may run on: those Slurm, taskset or a container leave it, where the system reports it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
