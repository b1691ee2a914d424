"""Gradient and weight collectives of a single data-parallel rank: they copy every gradient and every weight onto itself."""

from megatron.core.distributed.param_and_grad_buffer import _ParamAndGradBucketGroup as BucketGroup

__all__ = ["is_alone", "start_grad_sync", "start_param_sync"]

reduce_gradients, gather_weights = BucketGroup.start_grad_sync, BucketGroup.start_param_sync


def is_alone(group: BucketGroup) -> bool:
    """Say whether a bucket group's collective has one rank and nobody waits for a handle of it."""
    settings = group.ddp_config
    if settings.overlap_grad_reduce or settings.overlap_param_gather:
        return False
    if settings.use_distributed_optimizer:
        return group.intra_distributed_optimizer_instance_size == 1 and settings.num_distributed_optimizer_instances == 1
    return group.data_parallel_group.size() == 1


def start_grad_sync(self: BucketGroup, force_all_reduce: bool = False) -> None:
    """Stand in for the reduction of gradients."""
    if not is_alone(self):
        reduce_gradients(self, force_all_reduce)


def start_param_sync(self: BucketGroup, force_sync: bool = False) -> None:
    """Stand in for the gathering of weights."""
    if not is_alone(self):
        gather_weights(self, force_sync)
