"""All families, and which one holds a model."""

from codemix_megatron.errors import ConversionError
from codemix_megatron.families.cohere import COHERE
from codemix_megatron.families.family import Family
from codemix_megatron.families.llama import LLAMA
from codemix_megatron.families.mistral import MISTRAL
from codemix_megatron.families.qwen2 import QWEN2
from codemix_megatron.families.qwen3 import QWEN3

__all__ = ["FAMILIES", "choose_family"]

FAMILIES = {family.model_type: family for family in (LLAMA, MISTRAL, QWEN2, QWEN3, COHERE)}
# Every family can say these, or config.json has no place for them.
ANY_FAMILY = {"rope_base", "rope_scaling", "vocab_size", "vocab_padding_multiple", "precision", "dropout", "fp8"}


def choose_family(model: dict, defaults: dict, asked: str | None = None) -> Family:
    """Return the family asked for, else the first that can hold `model`, the recipe's block with its `defaults`.

    Raises ConversionError naming each key that keeps a family from it.
    """
    if asked is not None and asked not in FAMILIES:
        raise ConversionError(f"no family {asked!r}; there are {', '.join(FAMILIES)}")
    candidates = [FAMILIES[asked]] if asked else list(FAMILIES.values())
    found = {family.model_type: misfits(family, model, defaults) for family in candidates}
    for name, faults in found.items():
        if not faults:
            return FAMILIES[name]
    listed = "".join(f"\n  {name}: {'; '.join(faults)}" for name, faults in found.items())
    raise ConversionError(f"no Hugging Face architecture holds this model{listed}")


def misfits(family: Family, model: dict, defaults: dict) -> list[str]:
    """Name the keys of a model that a family cannot say."""
    columns = {key for _, key, _ in family.config} | ANY_FAMILY
    wanted = {key: family.fixed.get(key, defaults.get(key)) for key in model if key not in columns}
    return [f"model.{key} is {model[key]!r}, {family.model_type} has {value!r}" for key, value in wanted.items() if model[key] != value]
