"""Copies of a device's tensors in host memory, for a save that continues while they change."""

from collections.abc import Iterable

import torch
from megatron.core.dist_checkpointing.mapping import ShardedTensor

__all__ = ["HostCopies"]


class HostCopies:
    """Pinned memory that is kept from one save to the next: pinning the whole state takes longer than copying it."""

    def __init__(self) -> None:
        self.pinned: list[torch.Tensor] = []

    def take(self, shards: Iterable[ShardedTensor]) -> None:
        """Replace the data of sharded tensors with copies in host memory, pinned where they come from CUDA.

        What an earlier call gave is overwritten, so at most one save may be under way.
        """
        number, on_cuda = 0, False
        for shard in shards:
            there = shard.data.detach()
            if there.is_cuda:
                shard.data = self.copy_at(number, there)
                number, on_cuda = number + 1, True
            else:
                shard.data = torch.empty_like(there, device="cpu").copy_(there)
        if on_cuda:
            torch.cuda.current_stream().synchronize()

    def copy_at(self, number: int, there: torch.Tensor) -> torch.Tensor:
        """Copy a tensor into the memory of that number; it is made again where the tensor is another than last time."""
        if number == len(self.pinned):
            self.pinned.append(pinned_like(there))
        elif self.pinned[number].shape != there.shape or self.pinned[number].dtype != there.dtype:
            self.pinned[number] = pinned_like(there)
        return self.pinned[number].copy_(there, non_blocking=True)


def pinned_like(there: torch.Tensor) -> torch.Tensor:
    """Return pinned host memory for a tensor."""
    return torch.empty(there.shape, dtype=there.dtype, device="cpu", pin_memory=True)
