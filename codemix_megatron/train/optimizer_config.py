"""The settings of megatron-core's optimizer, and what groups of another Adam lack."""

import torch
from megatron.core.optimizer import OptimizerConfig

from codemix_megatron.recipe.schema import Recipe

__all__ = ["fill_groups", "optimizer_config"]


def fill_groups(optimizers: list[torch.optim.Optimizer]) -> None:
    """Give groups that another Adam has saved what this one asks of them: FusedAdam reads `bias_correction`, which ours does not save."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for name, value in optimizer.defaults.items():
                group.setdefault(name, value)


def optimizer_config(recipe: Recipe, overlaps: bool) -> OptimizerConfig:
    """Return megatron-core's optimizer configuration; rates are set each step."""
    optimizer = recipe.optimizer
    return OptimizerConfig(
        optimizer="adam",
        lr=recipe.phases[0].learning_rate.peak,
        min_lr=0.0,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_eps=optimizer.epsilon,
        clip_grad=optimizer.gradient_clip,
        bf16=recipe.model.precision == "bf16",
        params_dtype=torch.bfloat16 if recipe.model.precision == "bf16" else torch.float32,
        use_distributed_optimizer=recipe.parallel.distributed_optimizer,
        overlap_param_gather=overlaps,
    )
