"""Sequences over context parallel ranks: which part of each a rank has, and what all of them find at some positions."""

import torch
import torch.distributed as dist
from megatron.core import parallel_state

__all__ = ["context_parallel_slice", "of_all_parts", "own_positions"]


def context_parallel_slice(values: torch.Tensor) -> torch.Tensor:
    """Return this context parallel rank's part of [sequences, length]: an early and a late stretch, so that all attend to as much."""
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()
    if size == 1:
        return values
    stretches = values.reshape(len(values), 2 * size, -1)
    return stretches[:, [rank, 2 * size - 1 - rank]].flatten(1)


def own_positions(positions: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which positions of rows [rows, length] this rank has, and where they are in its own part, both row after row."""
    number = torch.arange(length, device=positions.device)[None]
    part = context_parallel_slice(number)[0]
    where = torch.full((length,), -1, dtype=torch.long, device=positions.device)
    where[part] = torch.arange(len(part), device=positions.device)
    row, local = positions // length, where[positions % length]
    is_own = local >= 0
    return is_own, (row * len(part) + local)[is_own]


def of_all_parts(found: torch.Tensor, is_own: torch.Tensor) -> torch.Tensor:
    """Return what all context parallel ranks found, [positions, ..], where `found` is of this rank's own. Each of them calls this."""
    if parallel_state.get_context_parallel_world_size() == 1:
        return found
    everything = found.new_zeros(len(is_own), *found.shape[1:])
    everything[is_own] = found
    dist.all_reduce(everything, group=parallel_state.get_context_parallel_group())
    return everything
