"""All families, and which one holds a model."""

from codemix_megatron.errors import ConversionError
from codemix_megatron.families.cohere import COHERE
from codemix_megatron.families.cohere2 import COHERE2
from codemix_megatron.families.family import Family
from codemix_megatron.families.granite import GRANITE
from codemix_megatron.families.layer_kinds import layer_kind_misfits
from codemix_megatron.families.llama import LLAMA
from codemix_megatron.families.mistral import MISTRAL
from codemix_megatron.families.olmo2 import OLMO2
from codemix_megatron.families.olmo3 import OLMO3
from codemix_megatron.families.phi3 import PHI3
from codemix_megatron.families.qwen2 import QWEN2
from codemix_megatron.families.qwen3 import QWEN3
from codemix_megatron.families.smollm3 import SMOLLM3
from codemix_megatron.families.starcoder2 import STARCODER2

__all__ = ["FAMILIES", "choose_family"]

EVERY = (LLAMA, MISTRAL, QWEN2, QWEN3, COHERE, OLMO2, OLMO3, STARCODER2, GRANITE, SMOLLM3, COHERE2, PHI3)
FAMILIES = {family.model_type: family for family in EVERY}
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
    columns |= {"full_attention_interval"} if family.full_attention_interval else set()
    columns |= {"no_rope_interval"} if family.without_rope != "none" else set()
    columns -= set() if family.scaled_rope else {"rope_scaling"}
    wanted = {key: family.fixed.get(key, defaults.get(key)) for key in model if key not in columns}
    found = [f"model.{key} is {model[key]!r}, {family.model_type} has {value!r}" for key, value in wanted.items() if model[key] != value]
    return found + layer_kind_misfits(family, model)
