"""Calls that megatron-core's products make and that do nothing here: a tenth of what a small model's step spends in Python.

On one tensor rank nothing has to be summed on entering or leaving the split part of a layer, and autocast is never used.
"""

import inspect

import torch
from megatron.core.tensor_parallel import layers

__all__ = ["install_fewer_calls"]


def unless_alone(region):
    """Return a function that enters or leaves a region as `region` does, and returns its input where the group is one rank."""

    def enter(values: torch.Tensor, group=None) -> torch.Tensor:
        return values if group is not None and group.size() == 1 else region(values, group=group)

    return enter


ON_ENTERING = unless_alone(layers.copy_to_tensor_model_parallel_region)
ON_LEAVING = unless_alone(layers.reduce_from_tensor_model_parallel_region)


def install_fewer_calls() -> None:
    """Leave them out from now on."""
    layers.copy_to_tensor_model_parallel_region = ON_ENTERING
    layers.reduce_from_tensor_model_parallel_region = ON_LEAVING
    product = layers.LinearWithGradAccumulationAndAsyncCommunication
    product.forward, product.backward = (staticmethod(inspect.unwrap(way)) for way in (product.forward, product.backward))
