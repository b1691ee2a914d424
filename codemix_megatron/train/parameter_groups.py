"""Which parameters learn and decay otherwise than the others, as megatron-core is told."""

from megatron.core.optimizer import get_standard_config_overrides
from megatron.core.optimizer.optimizer_config import OptimizerConfig, ParamKey, ParamWithNamePredicate

from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.recipe.transfer import is_embedding, is_final_norm, width_multiple

__all__ = ["parameter_groups"]


def parameter_groups(recipe: Recipe, config: OptimizerConfig) -> dict[ParamKey, dict] | None:
    """Return what differs by kind of parameter: multiples of learning rate and decay; None where it is as megatron-core has it."""
    multiple, changed = width_multiple(recipe), {}
    if multiple != 1:
        changed[matching("hidden", is_hidden)] = {"lr_mult": 1 / multiple, "wd_mult": multiple}
        changed[matching("final norm", lambda weight, name: is_final_norm(name))] = {"lr_mult": 1 / multiple}
    if not recipe.optimizer.decay_embeddings:
        changed[matching("embeddings", lambda weight, name: is_embedding(name))] = {"wd_mult": 0.0}
    return get_standard_config_overrides(config) | changed if changed else None


def matching(name: str, of) -> ParamKey:
    """Return the key of the parameters of which `of(parameter, name)` is true."""
    return ParamKey(with_name_predicate=ParamWithNamePredicate(name=name, fn=of))


def is_hidden(weight, name: str) -> bool:
    """Say whether a parameter is a matrix between layers: both of its sides grow with the width."""
    return weight.dim() > 1 and not is_embedding(name)
