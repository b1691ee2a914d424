"""Ranks: joining them, their process groups, seeds and agreements."""

import datetime
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist

from codemix_megatron.cores import available_cores
from codemix_megatron.errors import CodemixError, LaunchError
from codemix_megatron.megatron import cpu
from codemix_megatron.megatron.adam import install_adam
from codemix_megatron.parallel.device import active_engines, choose_device, transformer_engine_fault
from codemix_megatron.ports import listen_on
from codemix_megatron.recipe.checks import ranks_fault
from codemix_megatron.recipe.schema import Parallel

__all__ = ["Ranks", "any_rank", "gather", "join_ranks", "leave_ranks", "on_main", "one_rank"]


@dataclass(frozen=True)
class Ranks:
    """This process among all, and the layout they form."""

    rank: int
    size: int
    local_rank: int
    device: torch.device
    data: int  # data parallel size
    is_loss_stage: bool  # last pipeline stage
    is_first_stage: bool

    @property
    def is_main(self) -> bool:
        """Rank 0 writes the run's files."""
        return self.rank == 0


def join_ranks(parallel: Parallel, seed: int) -> Ranks:
    """Join the process group torchrun or srun describes, build Megatron's groups and seed them.

    Every rank calls this. Raises LaunchError when the number of ranks does not fit the layout or
    the others do not come within `parallel.timeout_seconds`.
    """
    rank, size, local_rank = place_from_environment()
    if fault := ranks_fault(parallel, size) or transformer_engine_fault():
        raise LaunchError(fault, exit_code=2)
    device = choose_device(parallel.device)
    require_transformer_engine(parallel, device)
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    if device.type == "cpu":
        cpu.install()
        torch.set_num_threads(parallel.threads_per_rank or max(1, available_cores() // local_size(size)))
    else:
        if not (active_engines()["transformer_engine"] or active_engines()["amp_C"]):
            install_adam()
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
    wait = datetime.timedelta(seconds=parallel.timeout_seconds)
    try:
        store = meeting_place(rank, size, wait)
        dist.init_process_group("gloo" if device.type == "cpu" else "nccl", store=store, rank=rank, world_size=size, timeout=wait)
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=parallel.tensor,
            pipeline_model_parallel_size=parallel.pipeline,
            virtual_pipeline_model_parallel_size=parallel.virtual_pipeline if parallel.virtual_pipeline > 1 else None,
            context_parallel_size=parallel.context,
            distributed_timeout_minutes=max(1, -(-parallel.timeout_seconds // 60)),
        )
    except (RuntimeError, ValueError) as refusal:
        raise LaunchError(f"rank {rank} of {size} could not join the others within {parallel.timeout_seconds} s: {refusal}") from refusal
    model_parallel_cuda_manual_seed(seed, force_reset_rng=True)
    return Ranks(
        rank=rank,
        size=size,
        local_rank=local_rank,
        device=device,
        data=parallel_state.get_data_parallel_world_size(),
        is_loss_stage=parallel_state.is_pipeline_last_stage(ignore_virtual=True),
        is_first_stage=parallel_state.is_pipeline_first_stage(ignore_virtual=True),
    )


def meeting_place(rank: int, size: int, wait: datetime.timedelta) -> dist.Store:
    """Return the store through which ranks find each other, once all of them have come to it.

    Raises LaunchError naming those that have not; torch, which makes one by itself, says only how many.
    """
    if size == 1:
        return dist.HashStore()
    env = os.environ
    hosted = rank == 0 and env.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # else torchrun has it already
    server = open_store(env["MASTER_ADDR"], int(env["MASTER_PORT"]), size, hosted, wait)
    store = dist.PrefixStore(f"codemix/{env.get('TORCHELASTIC_RESTART_COUNT', 0)}", server)
    store.set(f"rank-{rank}", "came")
    try:
        store.wait([f"rank-{other}" for other in range(size)], wait)
    except RuntimeError:
        absent = [str(other) for other in range(size) if not store.check([f"rank-{other}"])]
        who = f"rank {absent[0]}" if len(absent) == 1 else f"ranks {', '.join(absent)}"
        seconds = f"{wait.total_seconds():.0f} s"
        raise LaunchError(
            f"rank {rank} of {size} could not join the others within {seconds}: {who} never came; see logs/rank-N.log of those"
        ) from None
    return store


def open_store(address: str, port: int, size: int, hosted: bool, wait: datetime.timedelta) -> dist.TCPStore:
    """Return a client of the store at an address; with `hosted` this process serves it, on a port that its launcher may hold for it."""
    if not hosted:
        return dist.TCPStore(address, port, size, False, wait, wait_for_workers=False)
    try:
        server = listen_on(port, address)
    except OSError as fault:
        raise LaunchError(
            f"rank 0: MASTER_PORT {port} on {socket.gethostname()}: {str(fault.strerror).lower()}; give ranks a port that nobody uses"
        ) from fault
    bound = server.getsockname()[1]
    return dist.TCPStore(address, bound, size, True, wait, wait_for_workers=False, multi_tenant=True, master_listen_fd=server.detach())


def require_transformer_engine(parallel: Parallel, device: torch.device) -> None:
    """Raise LaunchError when the layout asks for what only Transformer Engine on CUDA does."""
    if parallel.context > 1 and not (device.type == "cuda" and active_engines()["transformer_engine"]):
        there = "is not installed" if device.type == "cuda" else "computes on CUDA alone, and this run is on CPU"
        raise LaunchError(
            f"parallel.context: {parallel.context} needs Transformer Engine, which {there}; set parallel.context=1", exit_code=2
        )


def leave_ranks() -> None:
    """Destroy Megatron's groups and the process group; safe to call twice."""
    from megatron.core import parallel_state

    if dist.is_initialized():
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


@contextmanager
def one_rank(seed: int = 0, device: Literal["auto", "cpu", "cuda"] = "auto"):
    """Be a group of one for a while: export, import and parity build a whole model this way."""
    saved = {key: os.environ.get(key) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    try:
        yield join_ranks(Parallel(device=device, threads_per_rank=available_cores()), seed)
    finally:
        leave_ranks()
        for key, value in saved.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def place_from_environment() -> tuple[int, int, int]:
    """Return (rank, size, local rank) as torchrun or, without it, srun gives them; (0, 1, 0) alone."""
    env = os.environ
    if "RANK" in env:
        return int(env["RANK"]), int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", 0))
    if "SLURM_PROCID" in env and "SLURM_STEP_ID" in env:
        if "MASTER_ADDR" not in env or "MASTER_PORT" not in env:
            raise LaunchError("started by srun without MASTER_ADDR and MASTER_PORT; export them in the batch script")
        return int(env["SLURM_PROCID"]), int(env["SLURM_NTASKS"]), int(env["SLURM_LOCALID"])
    env.setdefault("MASTER_ADDR", "127.0.0.1")
    env.setdefault("MASTER_PORT", "0")
    return 0, 1, 0


def local_size(size: int) -> int:
    """Return how many ranks share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or size)


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return True on every rank when it is True on one. Every rank calls this."""
    value = torch.tensor([int(flag)], dtype=torch.int32, device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def gather(ranks: Ranks, value) -> list:
    """Return the values of all ranks; they are pickled. Every rank calls this."""
    values: list[Any] = [None] * ranks.size
    dist.all_gather_object(values, value)
    return values


def on_main(ranks: Ranks, function):
    """Call `function` on the main rank and return its value on every rank; what it raises is raised on every rank.

    Every rank calls this. Only CodemixError and OSError are carried; the value is pickled.
    """
    box: list[Any] = [None, None]
    fault: CodemixError | OSError | None = None
    if ranks.is_main:
        try:
            box[0] = function()
        except (CodemixError, OSError) as caught:
            fault, box[1] = caught, (str(caught), getattr(caught, "exit_code", 1))
    dist.broadcast_object_list(box, device=ranks.device)
    if box[1] is not None:
        carried = CodemixError(box[1][0], exit_code=box[1][1])
        carried.is_carried = not ranks.is_main
        raise carried from fault
    return box[0]
