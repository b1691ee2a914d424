"""All families, and which one holds a model."""

import functools
import math

from codemix_megatron.errors import ConversionError
from codemix_megatron.families.cohere import COHERE
from codemix_megatron.families.cohere2 import COHERE2
from codemix_megatron.families.family import Family
from codemix_megatron.families.gemma import GEMMA
from codemix_megatron.families.gemma2 import GEMMA2
from codemix_megatron.families.gemma3 import GEMMA3
from codemix_megatron.families.granite import GRANITE
from codemix_megatron.families.layer_kinds import layer_kind_misfits
from codemix_megatron.families.llama import LLAMA
from codemix_megatron.families.mistral import MISTRAL
from codemix_megatron.families.mixtral import MIXTRAL
from codemix_megatron.families.olmo2 import OLMO2
from codemix_megatron.families.olmo3 import OLMO3
from codemix_megatron.families.olmoe import OLMOE
from codemix_megatron.families.phi3 import PHI3
from codemix_megatron.families.qwen2 import QWEN2
from codemix_megatron.families.qwen3 import QWEN3
from codemix_megatron.families.qwen3_moe import QWEN3_MOE
from codemix_megatron.families.smollm3 import SMOLLM3
from codemix_megatron.families.starcoder2 import STARCODER2
from codemix_megatron.plugins import Plugin, PluginError, plugins_of

__all__ = ["FAMILIES", "all_families", "choose_family"]

EVERY = (
    *(LLAMA, MISTRAL, QWEN2, QWEN3, COHERE, OLMO2, OLMO3, STARCODER2, GRANITE, SMOLLM3, COHERE2, PHI3, GEMMA, GEMMA2, GEMMA3),
    *(OLMOE, QWEN3_MOE, MIXTRAL),
)
FAMILIES = {family.model_type: family for family in EVERY}
# Every family can say these, or config.json has no place for them.
ANY_FAMILY = {"rope_base", "rope_scaling", "vocab_size", "vocab_padding_multiple", "precision", "dropout", "fp8"}


@functools.cache
def all_families() -> dict[str, Family]:
    """Return the families of this package and those that installed packages add, by model_type."""
    families = dict(FAMILIES)
    for plugin in plugins_of("families"):
        family = family_of(plugin)
        if family.model_type in families:
            raise PluginError(f"{plugin.title}: model_type {family.model_type!r} is another family's already; uninstall that package")
        families[family.model_type] = family
    return families


def family_of(plugin: Plugin) -> Family:
    """Return the family a plugin declares under its model_type."""
    family = plugin.load()
    if not isinstance(family, Family) or family.model_type != plugin.name:
        found = f"model_type {family.model_type!r}" if isinstance(family, Family) else repr(family)
        raise PluginError(f"{plugin.title}: gave {found}, needs a codemix_megatron.families.family.Family of model_type {plugin.name!r}")
    return family


def choose_family(model: dict, defaults: dict, asked: str | None = None) -> Family:
    """Return the family asked for, else the first that can hold `model`, the recipe's block with its `defaults`.

    Raises ConversionError naming each key that keeps a family from it.
    """
    families = all_families()
    if asked is not None and asked not in families:
        raise ConversionError(f"no family {asked!r}; there are {', '.join(families)}")
    candidates = [families[asked]] if asked else list(families.values())
    found = {family.model_type: misfits(family, model, defaults) for family in candidates}
    for name, faults in found.items():
        if not faults:
            return families[name]
    listed = "".join(f"\n  {name}: {'; '.join(faults)}" for name, faults in found.items())
    raise ConversionError(f"no Hugging Face architecture holds this model{listed}")


def misfits(family: Family, model: dict, defaults: dict) -> list[str]:
    """Name the keys of a model that a family cannot say."""
    columns = {key for _, key, _ in family.config} | ANY_FAMILY
    columns |= {"full_attention_interval"} if family.full_attention_interval else set()
    columns |= {"no_rope_interval"} if family.without_rope != "none" else set()
    columns |= {"window_rope_base"} if family.window_rope_base else set()
    columns |= {"embedding_multiplier"} if family.scaled_embeddings else set()
    columns |= {"rotary_share"} if family.partial_rope else set()
    scaling = model.get("rope_scaling")
    columns -= set() if scaling is None or scaling["kind"] in family.rope_scalings else {"rope_scaling"}
    wanted = {key: family.fixed.get(key, defaults.get(key)) for key in model if key not in columns}
    found = [f"model.{key} is {model[key]!r}, {family.model_type} has {value!r}" for key, value in wanted.items() if model[key] != value]
    return found + scale_misfits(family, model) + layer_kind_misfits(family, model)


def scale_misfits(family: Family, model: dict) -> list[str]:
    """Name the scales that a family derives from other numbers, where a model's are others."""
    found, width, scale = [], model["hidden_size"], model.get("attention_scale")
    if family.scaled_embeddings and not math.isclose(model.get("embedding_multiplier", 1.0), width**0.5):
        found.append(f"model.embedding_multiplier is {model.get('embedding_multiplier', 1.0)}, {family.model_type} has {width**0.5!r}")
    if family.inverse_squares and scale and not math.isclose(scale**-2, round(scale**-2), rel_tol=1e-9):
        found.append(f"model.attention_scale is {scale}, {family.model_type} has 1 / root of a whole number")
    return found
