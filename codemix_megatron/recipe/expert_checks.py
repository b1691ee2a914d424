"""Checks of a mixture of experts: what its layers compute, and over which ranks."""

import math

from codemix_megatron.recipe.schema import Model, Recipe

__all__ = ["expert_faults", "expert_layout_faults"]


def expert_faults(model: Model) -> list[str]:
    """Return what a mixture of experts lacks or has no place for."""
    if model.num_experts is None:
        asked = {"experts_per_token": model.experts_per_token is not None, "normalize_experts": model.normalize_experts}
        return [f"model.{key}: there are no experts; set num_experts or leave it out" for key, is_asked in asked.items() if is_asked]
    if model.experts_per_token is None:
        return ["model.experts_per_token: missing; say how many of the experts each token goes through"]
    faults = []
    if model.experts_per_token > model.num_experts:
        faults.append(f"model.experts_per_token: {model.experts_per_token}, there are {model.num_experts} experts (model.num_experts)")
    if model.normalize_experts and model.experts_per_token == 1:
        faults.append("model.normalize_experts: the weight of one expert would always be 1, and the router learn nothing; set it to false")
    if not 0 <= model.expert_balance < math.inf:
        faults.append(f"model.expert_balance: found {model.expert_balance}, must be at least 0")
    other = {
        "block": model.block == "parallel",
        "activation": model.activation != "swiglu",
        "linear_bias": model.linear_bias,
        "norm_position": model.norm_position != "before",
        "fp8": model.fp8 != "off",
    }
    return faults + [f"model.{key}: not there with num_experts; set one of the two back" for key, is_asked in other.items() if is_asked]


def expert_layout_faults(recipe: Recipe) -> list[str]:
    """Check the ranks of a mixture of experts. Each tensor rank has a part of every expert; ranks with experts of their own are not there."""
    parallel = recipe.parallel
    if recipe.model.num_experts is None:
        return []
    faults = []
    if parallel.tensor > 1 and not parallel.sequence_parallel:
        faults.append(f"parallel.sequence_parallel: experts over {parallel.tensor} tensor ranks need it; set it to true")
    if parallel.context > 1:
        faults.append("parallel.context: not there with model.num_experts; set it to 1")
    if recipe.optimizer.transfer == "mup":
        faults.append("optimizer.transfer: mup has no rule for a router; set it to none")
    return faults
