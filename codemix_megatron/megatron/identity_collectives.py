"""Calls that megatron-core's products make and that do nothing here: a tenth of what a small model's step spends in Python.

On one tensor rank nothing has to be summed on entering or leaving the split part of a layer, and autocast is never used.
"""

import torch
from megatron.core.tensor_parallel import copy_to_tensor_model_parallel_region as copy_into
from megatron.core.tensor_parallel import reduce_from_tensor_model_parallel_region as sum_out

__all__ = ["into_tensor_ranks", "out_of_tensor_ranks"]


def into_tensor_ranks(values: torch.Tensor, group=None) -> torch.Tensor:
    """Return values [..] as they are; backward sums their gradient over the group, by default the tensor ranks."""
    return values if is_alone(group) else copy_into(values, group=group)


def out_of_tensor_ranks(values: torch.Tensor, group=None) -> torch.Tensor:
    """Return the sum over the group, by default the tensor ranks; backward hands its gradient on as it is."""
    return values if is_alone(group) else sum_out(values, group=group)


def is_alone(group) -> bool:
    """Say whether a group is known to be one rank."""
    return group is not None and group.size() == 1
