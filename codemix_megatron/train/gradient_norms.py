"""The norm of the gradient by kind of weight: which part of a model is unstable, where the norm of all says only that some part is."""

import math
from collections.abc import Iterator

import torch
import torch.distributed as dist
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer
from megatron.core.tensor_parallel import param_is_not_tensor_parallel_duplicate
from megatron.core.transformer.module import param_is_not_shared

from codemix_megatron.megatron.optimizer_shards import held_ranges
from codemix_megatron.recipe.transfer import is_embedding

__all__ = ["KINDS_OF_WEIGHTS", "gradient_norms", "kind_of_weight"]

KINDS_OF_WEIGHTS = ("embedding", "output", "query_key_value", "attention_output", "mlp_in", "mlp_out", "norms_and_biases", "router")
PARTS = {"linear_qkv.weight": 2, "linear_proj.weight": 3, "linear_fc1.weight": 4, "linear_fc2.weight": 5, "router.weight": 7}
NORMS_AND_BIASES = 6


def kind_of_weight(name: str) -> int:
    """Return the index in KINDS_OF_WEIGHTS of a parameter of Megatron's."""
    if is_embedding(name):
        return 1 if name.endswith("output_layer.weight") else 0
    return next((index for ending, index in PARTS.items() if name.endswith(ending)), NORMS_AND_BIASES)


def gradient_norms(chunks: list, optimizers: list) -> dict[str, float]:
    """Return kind -> norm of its gradient before clipping, of those there are; their squares add up to that of the whole norm.

    Every rank calls this when gradients are reduced and ready.
    """
    kinds = {weight: kind_of_weight(name) for chunk in chunks for name, weight in chunk.named_parameters()}
    total = [0.0] * len(KINDS_OF_WEIGHTS)
    for optimizer in optimizers:
        sums = torch.zeros(len(KINDS_OF_WEIGHTS), dtype=torch.float64, device=next(chunks[0].parameters()).device)
        for weight, main in own_copies(optimizer):
            if main.grad is not None and param_is_not_shared(main) and param_is_not_tensor_parallel_duplicate(main):
                sums[kinds[weight]] += main.grad.detach().double().square().sum()
        dist.all_reduce(sums, group=optimizer.get_grad_stats_parallel_group())
        total = [a + b for a, b in zip(total, sums.tolist(), strict=True)]
    return {name: math.sqrt(square) for name, square in zip(KINDS_OF_WEIGHTS, total, strict=True) if square}


def own_copies(optimizer) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield each of the model's weights that this rank updates, or updates a part of, and what the optimizer holds of it."""
    if isinstance(optimizer, DistributedOptimizer):
        for weight, _, _ in held_ranges(optimizer):
            group, order = optimizer.model_param_group_index_map[weight]
            yield weight, optimizer.optimizer.param_groups[group]["params"][order]
        return
    halves = zip(getattr(optimizer, "float16_groups", []), getattr(optimizer, "fp32_from_float16_groups", []), strict=True)
    copies = {id(main): weight for weights, mains in halves for weight, main in zip(weights, mains, strict=True)}
    for main in optimizer.get_parameters():
        yield copies.get(id(main), main), main
