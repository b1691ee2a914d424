"""The state of every random stream of a rank, kept in checkpoints so that dropout draws on after a resume."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from megatron.core import parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.tensor_parallel import get_cuda_rng_tracker

__all__ = ["kept_random_state", "restore_random_state", "sharded_random_state"]


def sharded_random_state() -> ShardedObject:
    """Return this rank's random state as an entry of a checkpoint, one for each tensor and pipeline rank.

    Data parallel ranks draw alike, as in Megatron, so theirs is kept once. Every rank calls this.
    """
    state = random_state()
    shape = parallel_state.get_pipeline_model_parallel_world_size(), parallel_state.get_tensor_model_parallel_world_size()
    position = parallel_state.get_pipeline_model_parallel_rank(), parallel_state.get_tensor_model_parallel_rank()
    return ShardedObject(
        "random_state", state, shape, position, replica_id=parallel_state.get_data_parallel_rank(with_context_parallel=True)
    )


def random_state() -> dict:
    """Return the state of every random stream of this process."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(),  # on CPU the same stream as torch's
        "tracker": get_cuda_rng_tracker().get_states(),
    }


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put every random stream of this process back to where it was, whatever is drawn inside."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def restore_random_state(state: dict) -> None:
    """Put the streams of this rank back to where a checkpoint has them.

    Those of the device and the tracked ones begin again where the checkpoint comes from another kind of device: a CUDA generator's
    state is 16 bytes of seed and offset, a CPU generator's 5,000 of Mersenne Twister, and neither can go on as the other.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["device"].numel() == torch.cuda.get_rng_state().numel():
        torch.cuda.set_rng_state(state["device"])
        get_cuda_rng_tracker().set_states(state["tracker"])
