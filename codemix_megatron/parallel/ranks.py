"""Ranks: joining them, their process groups, seeds and agreements."""

import datetime
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any, Literal

import torch
import torch.distributed as dist

from codemix_megatron.cores import available_cores
from codemix_megatron.errors import CodemixError, LaunchError
from codemix_megatron.megatron.installing import install_changes
from codemix_megatron.parallel.addresses import check_addresses
from codemix_megatron.parallel.cuda_environment import set_cuda_environment
from codemix_megatron.parallel.device import active_engines, choose_device, device_of_rank, transformer_engine_fault
from codemix_megatron.parallel.limits import raise_limits
from codemix_megatron.parallel.meeting import meet
from codemix_megatron.placement import ALONE, find_placement, threads_of_rank
from codemix_megatron.recipe.layout_checks import ranks_fault
from codemix_megatron.recipe.schema import Parallel

__all__ = [
    "Ranks",
    "any_rank",
    "gather",
    "gather_on_main",
    "join_ranks",
    "leave_ranks",
    "on_main",
    "one_rank",
    "scatter_from_main",
]

ABORT_SECONDS = 20.0  # longest wait for NCCL to let go after a fault


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
    """Join the process group that torchrun, mpirun or srun describes, build Megatron's groups and seed them.

    Every rank calls this. Raises LaunchError when the number of ranks does not fit the layout or
    the others do not come within `parallel.timeout_seconds`.
    """
    placement = find_placement() or ALONE
    rank, size, local_rank = placement.rank, placement.size, placement.local_rank
    if fault := ranks_fault(parallel, size) or transformer_engine_fault():
        raise LaunchError(fault, exit_code=2)
    set_cuda_environment(parallel)
    device = choose_device(parallel.device)
    require_transformer_engine(parallel, device)
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    install_changes(device.type, active_engines())
    if device.type == "cpu":
        torch.set_num_threads(parallel.threads_per_rank or threads_of_rank(available_cores(), placement))
    else:
        device = device_of_rank(placement, torch.cuda.device_count())
        torch.cuda.set_device(device)
    raise_limits(size)
    wait = datetime.timedelta(seconds=parallel.timeout_seconds)
    try:
        store = meet(placement, wait)
        backend = "gloo" if device.type == "cpu" else "nccl"
        check_addresses(placement, store, backend, wait)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=parallel.tensor,
            pipeline_model_parallel_size=parallel.pipeline,
            virtual_pipeline_model_parallel_size=parallel.virtual_pipeline if parallel.virtual_pipeline > 1 else None,
            context_parallel_size=parallel.context,
            create_gloo_process_groups=False,  # nothing here uses those beside NCCL; they are sockets between all ranks
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


def require_transformer_engine(parallel: Parallel, device: torch.device) -> None:
    """Raise LaunchError when the layout asks for what only Transformer Engine on CUDA does."""
    if parallel.context > 1 and not (device.type == "cuda" and active_engines()["transformer_engine"]):
        there = "is not installed" if device.type == "cuda" else "computes on CUDA alone, and this run is on CPU"
        raise LaunchError(
            f"parallel.context: {parallel.context} needs Transformer Engine, which {there}; set parallel.context=1", exit_code=2
        )


def leave_ranks() -> None:
    """Destroy Megatron's groups and the process group; safe to call twice.

    While an exception is on its way out, NCCL's communicators are aborted: destroying them waits for collectives that other
    ranks still sit in, and what went wrong here would never be said.
    """
    from megatron.core import parallel_state

    if not dist.is_initialized():
        return
    if sys.exc_info()[0] is not None and dist.get_backend() == "nccl":
        within(ABORT_SECONDS, dist.distributed_c10d._abort_process_group)
        return
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()


def within(seconds: float, function: Callable[[], object]) -> bool:
    """Call a function on a thread that nobody waits for longer than this; say whether it returned in time."""
    thread = Thread(target=function, name="leaving", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


@contextmanager
def one_rank(seed: int = 0, device: Literal["auto", "cpu", "cuda"] = "auto"):
    """Be a group of one for a while: export, import and parity build a whole model this way."""
    saved = {key: os.environ.get(key) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")}
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    try:
        yield join_ranks(Parallel(device=device, threads_per_rank=threads_alone()), seed)
    finally:
        leave_ranks()
        for key, value in saved.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def threads_alone() -> int:
    """Return the threads of a process that is the only rank: those OMP_NUM_THREADS asks for, else one for each core."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else available_cores()


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


def gather_on_main(ranks: Ranks, value) -> list:
    """Return the values of all ranks on the main rank, nothing elsewhere; they are pickled. Every rank calls this."""
    values: list[Any] | None = [None] * ranks.size if ranks.is_main else None
    dist.gather_object(value, values)
    return values or []


def scatter_from_main(ranks: Ranks, function):
    """Call `function` on the main rank, which returns a value for each rank, and return this rank's; what it raises is raised on every rank.

    Every rank calls this. Each receives its own value alone, pickled, so that all together receive no more than what there is.
    """
    boxes: list[Any] | None = None
    fault: CodemixError | OSError | None = None
    if ranks.is_main:
        try:
            boxes = [(value, None) for value in function()]
        except (CodemixError, OSError) as caught:
            fault = caught
            boxes = [(None, (str(caught), getattr(caught, "exit_code", 1)))] * ranks.size
    received: list[Any] = [None]
    dist.scatter_object_list(received, boxes)
    value, told = received[0]
    raise_carried(ranks, told, fault)
    return value


def raise_carried(ranks: Ranks, told: tuple[str, int] | None, fault: Exception | None) -> None:
    """Raise the error that the main rank sent, if it sent one."""
    if told is not None:
        carried = CodemixError(told[0], exit_code=told[1])
        carried.is_carried = not ranks.is_main
        raise carried from fault


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
    raise_carried(ranks, box[1], fault)
    return box[0]
