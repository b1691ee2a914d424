"""This process's placement among the ranks of a start, as what started it leaves it in the environment. No torch.

torchrun, Open MPI, MVAPICH2, MPICH and Intel MPI (Hydra) and Slurm each have variables of their own. mpirun in a Slurm job starts its
processes from daemons that srun started, so its variables count before Slurm's, which are those of the daemon.
"""

import os
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from codemix_megatron.errors import LaunchError

__all__ = ["ALONE", "LAUNCHER_VARIABLES", "Placement", "find_placement", "meeting_address", "node_name", "threads_of_rank"]

INTERACTIVE_STEP = str(0xFFFFFFFB)  # Slurm's step of `salloc`, where LaunchParameters=use_interactive_step
FIRST_PORT, NUM_PORTS = 20000, 12000  # below the ports that Linux hands out by itself


@dataclass(frozen=True)
class Placement:
    """One rank among `size`, `local_size` of which share its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    launcher: str


ALONE = Placement(0, 1, 0, 1, "nobody")


@dataclass(frozen=True)
class Variables:
    """What a launcher calls the four numbers."""

    launcher: str
    rank: str
    size: str
    local_rank: str
    local_size: str


TORCHRUN = Variables("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
OPEN_MPI = Variables("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
MVAPICH = Variables("MVAPICH2", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE")
HYDRA = Variables("MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
MPIS = (OPEN_MPI, MVAPICH, HYDRA)
JOBS_OF_MPI = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid")  # what all processes of one mpirun share
# What a process that is to start ranks of its own must not pass on to them.
LAUNCHER_VARIABLES = (
    *(name for v in (TORCHRUN, *MPIS) for name in (v.rank, v.size, v.local_rank, v.local_size)),
    "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID", "PMIX_RANK",
)  # fmt: skip


def find_placement(env: Mapping[str, str] = os.environ) -> Placement | None:
    """Return this process's placement, or None when it is alone; raises LaunchError when the environment has only a part of it."""
    if TORCHRUN.rank in env:
        return read_placement(TORCHRUN, env)
    is_step = is_slurm_rank(env)
    for names in MPIS:
        if names.rank in env and not (is_step and env[names.rank] == env.get("SLURM_PROCID")):
            return read_placement(names, env)
    if is_step:
        return slurm_placement(env)
    if "PMIX_RANK" in env and "SLURM_STEP_ID" not in env:
        raise LaunchError(
            f"PMIX_RANK is {env['PMIX_RANK']}, and nothing says how many ranks there are; export RANK=$PMIX_RANK, WORLD_SIZE and LOCAL_RANK"
            " in a script around the command, or use mpirun, srun or torchrun",
            exit_code=2,
        )
    return None


def read_placement(names: Variables, env: Mapping[str, str]) -> Placement:
    """Return the placement that a launcher's variables describe; a machine is one's own where nothing is said of it."""
    size = number(names.size, env, names)
    rank = number(names.rank, env, names)
    is_spread = names is HYDRA and env.get("MASTER_ADDR", "127.0.0.1") != "127.0.0.1"
    fallback = {} if is_spread else {names.local_rank: str(rank if names is not TORCHRUN else 0)}
    local_rank = number(names.local_rank, {**fallback, **env}, names)
    # The training operator of Kubernetes sets no local numbers: there a pod is a machine.
    is_one_there = names is TORCHRUN and names.local_rank not in env and is_elsewhere(env.get("MASTER_ADDR", ""))
    local_size = number(names.local_size, {names.local_size: str(1 if is_one_there else size), **env}, names)
    if not 0 <= rank < size:
        raise LaunchError(f"{names.rank} is {rank} and {names.size} {size}; ranks go from 0 to {size - 1}", exit_code=2)
    return Placement(rank, size, local_rank, local_size, names.launcher)


def is_elsewhere(address: str) -> bool:
    """Say whether an address may be another machine's; `localhost` and loopbacks are this one's."""
    return bool(address) and address not in ("localhost", "::1") and not address.startswith("127.")


def number(name: str, env: Mapping[str, str], names: Variables) -> int:
    """Return a variable's number; raises LaunchError naming the variable that made us look for it."""
    try:
        return int(env[name])
    except KeyError:
        raise LaunchError(
            f"{names.rank} is set, so this is one of several ranks, and {name} is not; export it, or unset {names.rank} to train alone",
            exit_code=2,
        ) from None
    except ValueError:
        raise LaunchError(f"{name}: found {env[name]!r}, must be a whole number", exit_code=2) from None


def is_slurm_rank(env: Mapping[str, str]) -> bool:
    """Say whether srun started this process as one of several ranks, and not as a shell or a command that is to start them.

    `srun --pty`, the step of `salloc`, and a step of one task outside of our batch script are commands like any other.
    """
    if "SLURM_PROCID" not in env or env.get("SLURM_STEP_ID") in (None, INTERACTIVE_STEP) or "SLURM_PTY_PORT" in env:
        return False
    return "CODEMIX_BATCH" in env or step_tasks(env) > 1


def step_tasks(env: Mapping[str, str]) -> int:
    """Return the tasks of this step; SLURM_NTASKS may be the job's where a step asked for fewer."""
    return int(env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS") or 1)


def slurm_placement(env: Mapping[str, str]) -> Placement:
    """Return the placement of a task of srun; raises LaunchError when the environment does not say where ranks meet."""
    size = step_tasks(env)
    if size > 1 and ("MASTER_ADDR" not in env or "MASTER_PORT" not in env):
        raise LaunchError(
            "started by srun without MASTER_ADDR and MASTER_PORT; export them in the batch script, and start ranks with srun --export=ALL"
            " where the site's default is --export=NONE",
            exit_code=2,
        )
    return Placement(int(env["SLURM_PROCID"]), size, int(env.get("SLURM_LOCALID", 0)), tasks_here(env, size), "srun")


def tasks_here(env: Mapping[str, str], size: int) -> int:
    """Return the step's tasks on this node, out of a list such as 8(x3),4 and the node's number in it."""
    counts = []
    for part in filter(None, env.get("SLURM_STEP_TASKS_PER_NODE", "").split(",")):
        count, _, times = part.rstrip(")").partition("(x")
        counts += [int(count)] * int(times or 1)
    node = int(env.get("SLURM_NODEID", 0))
    return counts[node] if node < len(counts) else int(env.get("SLURM_NTASKS_PER_NODE") or size)


def meeting_address(placement: Placement, env: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Return where ranks meet: MASTER_ADDR and MASTER_PORT, or an address on this node that all ranks of one mpirun find by themselves."""
    try:
        if "MASTER_ADDR" in env and "MASTER_PORT" in env:
            return env["MASTER_ADDR"], int(env["MASTER_PORT"])
    except ValueError:
        raise LaunchError(f"MASTER_PORT: found {env['MASTER_PORT']!r}, must be a whole number", exit_code=2) from None
    is_one_machine = placement.local_size == placement.size
    if not is_one_machine or placement.launcher == TORCHRUN.launcher:
        raise LaunchError(
            f"rank {placement.rank} of {placement.size} ({placement.launcher}) does not know where ranks meet; export MASTER_ADDR, the first node's"
            " name, and MASTER_PORT, one that nobody uses there (mpirun -x MASTER_ADDR -x MASTER_PORT)",
            exit_code=2,
        )
    shared = next((env[name] for name in JOBS_OF_MPI if name in env), f"parent {os.getppid()}")
    return env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT") or FIRST_PORT + zlib.crc32(shared.encode()) % NUM_PORTS)


def node_name() -> str:
    """Return the name of the node this process runs on, Slurm's where there is one."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def threads_of_rank(allowed_cores: int, placement: Placement, env: Mapping[str, str] = os.environ) -> int:
    """Return how many threads a rank computes with: its cores where it was given some of its own, else its part of what ranks share.

    Slurm binds tasks (TaskPlugin affinity or cgroup), and so does mpirun; to divide a mask that is one rank's own would leave cores idle.
    """
    if placement.launcher == "srun" and (asked := int(env.get("SLURM_CPUS_PER_TASK") or 0)):
        return max(1, min(asked, allowed_cores))
    there = int(env.get("SLURM_CPUS_ON_NODE") or 0) if placement.launcher == "srun" else os.cpu_count() or 1
    binds = placement.launcher != TORCHRUN.launcher
    is_own = binds and placement.local_size > 1 and allowed_cores * placement.local_size <= there
    return max(1, allowed_cores if is_own else allowed_cores // placement.local_size)
