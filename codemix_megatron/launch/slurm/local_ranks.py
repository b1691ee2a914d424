"""The ranks of a job on this very machine, killed without asking Slurm, which may be out of reach."""

import contextlib
import os
import signal
from pathlib import Path

__all__ = ["kill_ranks_here"]


def kill_ranks_here(job: str) -> int:
    """Kill what srun started here for a job's steps (Linux); return how many processes that were. The batch process is no step."""
    mark, count = f"SLURM_JOB_ID={job}", 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            words = (entry / "environ").read_bytes().decode(errors="replace").split("\0") if entry.name.isdigit() else []
            if mark in words and any(word.startswith("SLURM_STEP_ID=") for word in words):
                os.kill(int(entry.name), signal.SIGKILL)
                count += 1
    return count
