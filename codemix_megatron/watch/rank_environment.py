"""This process's placement: which start it belongs to, which of its ranks it is, and on which node. No torch."""

import os
import re
from contextlib import suppress

from codemix_megatron.errors import LaunchError
from codemix_megatron.placement import find_placement, node_name

__all__ = ["is_a_rank", "node_name", "own_rank", "start_id"]


def is_a_rank() -> bool:
    """Say whether this process was started by torchrun, mpirun or srun as one of several ranks."""
    return find_placement() is not None


def own_rank() -> int:
    """Return this process's rank, 0 when it is alone or the environment has only a part of a placement, which find_placement refuses."""
    if (rank := os.environ.get("RANK", "")).isdigit():
        return int(rank)
    with suppress(LaunchError):
        if placement := find_placement():
            return placement.rank
    return 0


def start_id() -> str:
    """Return what all ranks of one start call it: the name the launching process or the batch script gave it, Slurm's job and restart, or torchrun's."""
    env = os.environ
    if given := env.get("CODEMIX_FOLLOWED") or env.get("CODEMIX_BATCH"):
        name = given
    elif "SLURM_JOB_ID" in env:
        name = f"{env['SLURM_JOB_ID']}.{env.get('SLURM_RESTART_COUNT') or 0}"
    elif env.get("TORCHELASTIC_RUN_ID", "none") != "none":
        name = f"{env['TORCHELASTIC_RUN_ID']}.{env.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    else:
        name = f"port-{env.get('MASTER_PORT', 0)}"
    return re.sub(r"[^\w.-]", "_", name)
