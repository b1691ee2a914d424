"""Initial weights as a function of (seed, name) alone, so that every layout starts from the same model."""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

from codemix_megatron.errors import CheckpointError
from codemix_megatron.recipe.schema import Model
from codemix_megatron.recipe.transfer import is_embedding, is_final_norm

__all__ = ["initialize_weights", "sharded_tensors"]


def sharded_tensors(model_chunks) -> list[ShardedTensor]:
    """Return every parameter of this rank with its position in the whole model; `data` is a view of the parameter."""
    found = []
    for chunk in model_chunks:
        stack = list(chunk.sharded_state_dict().values())
        while stack:
            entry = stack.pop()
            if isinstance(entry, ShardedTensor):
                found.append(entry)
            elif isinstance(entry, ShardedTensorFactory):
                stack.append(entry.build())
            elif isinstance(entry, (dict, list)):
                stack += entry.values() if isinstance(entry, dict) else entry
    return found


@torch.no_grad()
def initialize_weights(model_chunks, seed: int, model: Model, width_multiple: float = 1.0) -> None:
    """Fill every parameter: norms with what multiplies by 1, biases with 0, matrices with N(0, init_std).

    Matrices that write to the residual get std/sqrt(2 layers). For `width_multiple` see recipe/transfer.py.
    """
    shards = sharded_tensors(model_chunks)
    with ThreadPoolExecutor(max(1, min(torch.get_num_threads(), len(shards)))) as threads:  # each draws from a stream of its own
        list(threads.map(partial(fill, seed=seed, model=model, width_multiple=width_multiple), shards))
    filled = sum(shard.data.numel() for shard in shards)
    wanted = sum(p.numel() for chunk in model_chunks for p in chunk.parameters())
    if filled != wanted:
        raise CheckpointError(f"initial weights: {filled} numbers were set, the model on this rank has {wanted}")


@torch.no_grad()
def fill(shard: ShardedTensor, seed: int, model: Model, width_multiple: float) -> None:
    """Fill one parameter."""
    if is_final_norm(shard.key):
        shard.data.fill_(1.0 / width_multiple - model.zero_centered_norm)
    elif shard.key.endswith(("norm.weight", "layer_norm_weight")):
        shard.data.fill_(1.0 - model.zero_centered_norm)
    elif shard.key.endswith((".bias", "layer_norm_bias")):
        shard.data.zero_()
    else:
        is_residual_writer = shard.key.endswith(("linear_proj.weight", "linear_fc2.weight"))
        scale = model.init_std / math.sqrt(2 * model.num_layers) if is_residual_writer else model.init_std
        if not is_embedding(shard.key):
            scale /= math.sqrt(width_multiple)
        shard.data.copy_(own_part(shard, seed) * scale)


def own_part(shard: ShardedTensor, seed: int) -> torch.Tensor:
    """Draw the whole tensor from its own stream and cut out this rank's part."""
    layer = shard.global_offset[: shard.prepend_axis_num]
    shape = shard.global_shape[shard.prepend_axis_num :]
    offset = shard.global_offset[shard.prepend_axis_num :]
    digest = hashlib.blake2b(f"{seed}/{shard.key}/{layer}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    whole = torch.randn(shape, generator=generator)
    for axis, (start, length) in enumerate(zip(offset, shard.data.shape, strict=True)):
        whole = whole.narrow(axis, start, length)
    return whole
