"""Each key of the model block changes what it has to change in four places, or stands in a table with the reason why not.

The places: the model that is built, what it costs, what plain Megatron-LM is told, what Hugging Face's config.json says. A new key without a
line here fails, and so does one that a place has forgotten.
"""

import ast
from dataclasses import asdict, fields, replace

import pytest
from test_megatron_arguments import manifest
from tiny_run import REPOSITORY

from codemix_megatron.errors import ConversionError, RecipeError
from codemix_megatron.families.configuration import config_of_model
from codemix_megatron.families.registry import choose_family
from codemix_megatron.plan.cost import count_parameters, training_flops_per_token
from codemix_megatron.plan.megatron_arguments import megatron_arguments
from codemix_megatron.plan.memory import fullest_stage
from codemix_megatron.plan.plan import make_plan
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.schema import Model, RopeScaling

VOCABULARY = 5000
OTHER = {  # another value of each key
    "num_layers": 3, "hidden_size": 128, "num_attention_heads": 8, "sequence_length": 32, "num_query_groups": 2, "head_dim": 32,
    "ffn_hidden_size": 320, "block": "parallel", "normalization": "layernorm", "qkv_bias": True, "qk_norm": True, "sliding_window": 16,
    "activation": "gelu", "linear_bias": True,
    "norm_position": "after", "qk_norm_width": "all", "full_attention_interval": 2, "no_rope_interval": 2, "embedding_multiplier": 12.0,
    "residual_multiplier": 0.2, "attention_scale": 0.1, "zero_centered_norm": True, "attention_softcap": 50.0, "logit_softcap": 30.0,
    "window_rope_base": 1e5, "rotary_share": 0.5,
    "tie_embeddings": False, "logit_scale": 0.5, "rope_base": 5e5, "rotary_interleaved": True,
    "rope_scaling": RopeScaling(kind="linear", factor=2.0), "normalization_epsilon": 1e-6, "init_std": 0.01, "dropout": 0.1,
    "num_experts": 4, "experts_per_token": 3, "normalize_experts": True, "expert_balance": 0.1,
    "vocab_size": 6000, "vocab_padding_multiple": 64, "precision": "bf16", "fp8": "delayed",
}  # fmt: skip
NO_COST = "changes no count of numbers, products or bytes"
SILENT = {
    "cost": dict.fromkeys(
        ("logit_scale", "embedding_multiplier", "residual_multiplier", "attention_scale", "norm_position", "no_rope_interval"), NO_COST
    )
    | dict.fromkeys(("zero_centered_norm", "logit_softcap", "window_rope_base", "rotary_share"), NO_COST)
    | dict.fromkeys(("rope_base", "rotary_interleaved", "rope_scaling", "normalization_epsilon", "init_std", "normalization"), NO_COST)
    | {
        "normalize_experts": NO_COST,
        "attention_softcap": "scores of one layer, which are in memory then, are not counted: a lower bound",
        "expert_balance": NO_COST,
        "sliding_window": "attention is counted as if it saw all: an upper bound",
        "full_attention_interval": "attention is counted as if it saw all: an upper bound",
        "dropout": "masks are drawn again in backward",
        "fp8": "a lower bound: FP8 copies are counted by the device's planner",
    },
    "Megatron-LM": {},
    "Hugging Face": dict.fromkeys(
        ("precision", "fp8", "dropout", "vocab_padding_multiple"), "of training; the export's dtype is said elsewhere"
    )
    | {"vocab_size": "config.json has the tokenizer's ids or more, given by the caller"},
}
WITH_EXPERTS = {"num_experts": 8, "experts_per_token": 2, "qk_norm": True}
EXPERT_KEYS = ("num_experts", "experts_per_token", "normalize_experts", "expert_balance")
NEEDS = {key: {needed: value for needed, value in WITH_EXPERTS.items() if needed != key} for key in EXPERT_KEYS}
NEEDS |= {"qk_norm_width": {"qk_norm": True}, "full_attention_interval": {"sliding_window": 16},
          "window_rope_base": {"sliding_window": 16}}  # fmt: skip
BY_PROPERTY = {"num_query_groups": "query_groups", "head_dim": "head_size", "ffn_hidden_size": "ffn_size",
               "vocab_size": "padded_vocab_size", "vocab_padding_multiple": "padded_vocab_size"}  # fmt: skip


@pytest.fixture
def base(small_recipe):
    """The small recipe, wide enough that every other value makes a model."""
    recipe = read_recipe(small_recipe)
    shape = {
        "num_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "sequence_length": 64,
        "num_query_groups": 4,
        "ffn_hidden_size": 192,
    }
    return replace(recipe, model=replace(recipe.model, **shape))


def costs(recipe) -> str:
    """Return every number of plan/cost.py."""
    model = recipe.model
    return repr((count_parameters(model, VOCABULARY), training_flops_per_token(model, VOCABULARY), fullest_stage(recipe, VOCABULARY, 1)))


def told(recipe) -> str:
    """Return what Megatron-LM is told, notes included; a refusal counts as an answer."""
    corpora = {name: manifest(recipe, name, 990, 1000) for name in recipe.corpora}
    try:
        return megatron_arguments(recipe, make_plan(recipe, corpora), corpora).as_shell()
    except RecipeError as refusal:
        return str(refusal)


def config(recipe) -> str:
    """Return config.json of the family that holds the model; a refusal counts as an answer."""
    model = asdict(recipe.model) | {"num_query_groups": recipe.model.query_groups, "ffn_hidden_size": recipe.model.ffn_size}
    defaults = {field.name: field.default for field in fields(Model)}
    try:
        return repr(config_of_model(choose_family(model, defaults), model, VOCABULARY))
    except ConversionError as refusal:
        return str(refusal)


PLACES = {"cost": costs, "Megatron-LM": told, "Hugging Face": config}


def test_table_has_every_key():
    assert set(OTHER) == {field.name for field in fields(Model)}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", OTHER)
def test_key_changes_what_it_has_to_or_its_silence_has_a_reason(base, key, place):
    changed = replace(base, model=replace(base.model, **{key: OTHER[key]}))
    if key == "qk_norm" or key == "qkv_bias":
        changed = replace(changed, model=replace(changed.model, tie_embeddings=True))
    for needed in NEEDS.get(key, {}).items():
        base, changed = (replace(recipe, model=replace(recipe.model, **dict([needed]))) for recipe in (base, changed))
    is_heard = PLACES[place](changed) != PLACES[place](base)
    assert is_heard == (key not in SILENT[place]), f"{place} {'hears' if is_heard else 'does not hear'} model.{key}"


def test_model_room_reads_every_key():
    read = set()
    for path in (REPOSITORY / "codemix_megatron" / "model").glob("*.py"):
        read |= {node.attr for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)}
    forgotten = {key for key in OTHER if BY_PROPERTY.get(key, key) not in read}
    assert not forgotten
