"""The distributed optimizer's state in a checkpoint: every data-parallel rank writes and reads what it holds, and nothing else.

On disk this is megatron-core's `fully_reshardable` format: for every weight, its fp32 copy and both moments in the weight's
global shape, so that it loads at any layout. megatron-core itself gathers the whole state on every data-parallel rank first,
three passes over it and, on CUDA, the memory for it; loading, every rank reads all of it. But what a rank holds of a weight, a
range of the flattened weight, is at most a few rectangles of it, which torch's distributed checkpoints take as they are.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory
from megatron.core.dist_checkpointing.utils import extract_sharded_tensors_and_factories
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

__all__ = ["AVERAGE", "held_ranges", "load_states", "rectangles", "sharded_states"]

AVERAGE = "average"  # of a weight over steps, where train/weight_average.py keeps one
STATES = ("param", "exp_avg", "exp_avg_sq", AVERAGE)


def sharded_states(optimizer: DistributedOptimizer, model_state: dict, is_loading: bool = False, metadata: dict | None = None) -> dict:
    """Return {weight's number: {state: {number: ShardedTensor}}} of this rank; their data are views of the optimizer's own tensors.

    Stands in for `DistributedOptimizer.sharded_param_state_fully_reshardable`, whose arguments these are.
    """
    weights, _ = extract_sharded_tensors_and_factories(model_state)
    sharded = {entry.data: entry for entry in nested_values(weights)}
    found = {}
    for number, (weight, start, stop) in enumerate(held_ranges(optimizer)):
        tensors = optimizer._get_main_param_and_optimizer_states(weight)
        found[number] = {
            name: dict(enumerate(pieces(sharded[weight], f"optimizer.state.{name}", tensors[name].detach(), start, stop)))
            for name in STATES
            if name != AVERAGE or name in tensors
        }
    return found


def held_ranges(optimizer: DistributedOptimizer) -> Iterator[tuple[torch.nn.Parameter, int, int]]:
    """Yield each weight of which this rank holds a part, and which range of the flattened weight that is."""
    for bucket in (bucket for buffer in optimizer.gbuf_ranges for buckets in buffer.values() for bucket in buckets):
        for weight, ranges in bucket["param_map"].items():
            yield weight, ranges["param"].start, ranges["param"].end


def pieces(weight: ShardedTensor | ShardedTensorFactory, prefix: str, held: torch.Tensor, start: int, stop: int) -> Iterator[ShardedTensor]:
    """Yield the range [start, stop) of a flattened weight, whose values are `held`, as rectangles of the global tensor, in order."""
    first = begin = 0
    for part in parts_of(weight):
        last = first + part.data.numel()
        for offset, shape in rectangles(tuple(part.data.shape), max(start, first) - first, min(stop, last) - first):
            yield piece(part, prefix, held[begin : (begin := begin + shape.numel())].view(shape), offset)
        first = last


def parts_of(weight: ShardedTensor | ShardedTensorFactory) -> list[ShardedTensor]:
    """Return what of the global tensor stands in this model rank's weight, one after the other: of gate and up, a part each."""
    return [weight] if isinstance(weight, ShardedTensor) else list(nested_values(weight.build()))


def piece(part: ShardedTensor, prefix: str, data: torch.Tensor, offset: tuple[int, ...]) -> ShardedTensor:
    """Return the ShardedTensor of a rectangle at `offset` of `part`."""
    ones = part.prepend_axis_num  # torch knows no axes beside the data's own
    offsets = tuple(whole + own for whole, own in zip(part.global_offset, (0,) * ones + offset, strict=True))
    return replace(
        part,
        key=f"{prefix}.{part.key}",
        data=data.view((1,) * ones + tuple(data.shape)),
        dtype=data.dtype,
        local_shape=(1,) * ones + tuple(data.shape),
        global_offset=offsets,
        axis_fragmentations=None,
        replica_id=(*part.replica_id[:2], 0),
        prepend_axis_num=0,
    )


def load_states(optimizer: DistributedOptimizer, loaded: dict) -> None:
    """Stand in for `load_parameter_state_from_fully_reshardable`: what was loaded went straight to where it belongs."""
    for number, (weight, _, _) in enumerate(held_ranges(optimizer)):
        tensors = optimizer._get_main_param_and_optimizer_states(weight)
        for name in (name for name in STATES if name in loaded[number]):
            parts = list(loaded[number][name].values())
            if name not in tensors:  # megatron-core creates the state again when it loads, with moments alone
                group, order = optimizer.model_param_group_index_map[weight]
                own = optimizer.optimizer.param_groups[group]["params"][order]
                optimizer.optimizer.state[own][name] = torch.cat([part.flatten() for part in parts])
            elif parts[0].data_ptr() != tensors[name].data_ptr():
                tensors[name].detach().copy_(torch.cat([part.flatten() for part in parts]))


def rectangles(shape: tuple[int, ...], start: int, stop: int) -> list[tuple[tuple[int, ...], torch.Size]]:
    """Return offsets and shapes of the fewest contiguous blocks that make up the range [start, stop) of a flattened tensor."""
    if start >= stop:
        return []
    if len(shape) == 1:
        return [((start,), torch.Size((stop - start,)))]
    size = torch.Size(shape[1:]).numel()
    first, last = -(-start // size), stop // size  # whole rows
    if first > last:
        return in_row(shape, last, start, stop)
    found = in_row(shape, first - 1, start, first * size)
    if first < last:
        found.append(((first, *(0,) * (len(shape) - 1)), torch.Size((last - first, *shape[1:]))))
    return found + in_row(shape, last, last * size, stop)


def in_row(shape: tuple[int, ...], row: int, start: int, stop: int) -> list[tuple[tuple[int, ...], torch.Size]]:
    """Return the rectangles of a range that lies in one row."""
    size = torch.Size(shape[1:]).numel()
    return [((row, *offset), torch.Size((1, *block))) for offset, block in rectangles(shape[1:], start - row * size, stop - row * size)]
