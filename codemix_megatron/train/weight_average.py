"""An exponential moving average of the weights, kept in fp32 beside the optimizer's own copy of each and split over ranks like that.

It stands in the optimizer's state, so that it is saved, loaded and resharded with Adam's moments. Products are rounded before they are added, as numpy does.
"""

from collections.abc import Iterator

import torch

from codemix_megatron.megatron.optimizer_shards import AVERAGE

__all__ = ["begin_average", "forget_average", "update_average"]


def averaged_weights(optimizers: list) -> Iterator[tuple[torch.Tensor, dict]]:
    """Yield each fp32 weight that this rank's optimizers hold, and its state."""
    for optimizer in optimizers:
        for group in optimizer.optimizer.param_groups:
            for weight in group["params"]:
                yield weight, optimizer.optimizer.state[weight]


@torch.no_grad()
def begin_average(optimizers: list) -> None:
    """Let the average be the weights as they are. Their moments have to be there already."""
    for weight, state in averaged_weights(optimizers):
        state[AVERAGE] = weight.detach().clone()


def forget_average(optimizers: list) -> None:
    """Take the average out of the state: a checkpoint that has none cannot fill it.

    Weights without a state are left without: megatron-core makes none where it sees that there are some.
    """
    for optimizer in optimizers:
        for state in optimizer.optimizer.state.values():
            state.pop(AVERAGE, None)


@torch.no_grad()
def update_average(optimizers: list, decay: float) -> None:
    """Move the average towards the weights as the last update left them."""
    for weight, state in averaged_weights(optimizers):
        state[AVERAGE].mul_(decay).add_(weight * (1 - decay))
