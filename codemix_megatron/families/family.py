"""Family: one Hugging Face architecture as data. What its tensors and its config.json's keys are called on both sides."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "BIASES",
    "BLOCK",
    "BOTH_NORMED_BLOCK",
    "EXPERTS",
    "MISSING",
    "OUTPUT_NORMED_BLOCK",
    "SHAPE",
    "Family",
    "Row",
    "StackIndex",
    "indexed_rows",
    "layer",
    "row",
    "without",
]

StackIndex = tuple[int, ...]  # of one matrix of a tensor that is stacked: (), (layer,) or (layer, expert)

MISSING = object()  # as default of a key: config.json must have it


@dataclass(frozen=True)
class Row:
    """One tensor of Megatron's and what it is on the Hugging Face side.

    `megatron` holds the names of the local and of the Transformer Engine layer spec, where they differ; `*` is
    the layer, `#` the expert. `dimensions` name the axes on Megatron's side; the first one says how the tensor is cut:
    `vocabulary` has padding rows that Hugging Face has not, `query_key_value` holds three tensors interleaved by
    group, `gate_up` two one after the other; any other is the same tensor on both sides.
    """

    megatron: tuple[str, ...]
    hugging_face: tuple[str, ...]
    dimensions: tuple[str, ...]

    @property
    def in_layers(self) -> bool:
        """Whether every layer has one."""
        return "*" in self.hugging_face[0]

    @property
    def in_experts(self) -> bool:
        """Whether every expert of every layer has one."""
        return "#" in self.hugging_face[0]

    @property
    def stacked_names(self) -> tuple[str, ...]:
        """What checkpoints call it: there the layers of a tensor, and its experts, are one array."""
        return tuple(name.replace(".*", "").replace(".#", "") for name in self.megatron)

    def names_at(self, index: StackIndex) -> list[str]:
        """Return the names on the Hugging Face side of one of them."""
        numbers = dict(zip("*#", map(str, index), strict=False))
        return [name.replace("*", numbers.get("*", "")).replace("#", numbers.get("#", "")) for name in self.hugging_face]

    def stack(self, num_layers: int, num_experts: int) -> tuple[int, ...]:
        """Return the axes before those of one of them, in a checkpoint."""
        return (num_layers, num_experts) if self.in_experts else (num_layers,) if self.in_layers else ()


def row(megatron: str, hugging_face: str, dimensions: str) -> Row:
    """Return a row of the table; several names are separated by blanks."""
    return Row(tuple(megatron.split()), tuple(hugging_face.split()), tuple(dimensions.split()))


def layer(megatron: str, hugging_face: str, dimensions: str) -> Row:
    """Return the row of a tensor that every layer has."""
    names = " ".join(f"decoder.layers.*.{name}" for name in megatron.split())
    return row(names, " ".join(f"model.layers.*.{name}" for name in hugging_face.split()), dimensions)


# The tensors of a decoder with SwiGLU, rotary positions and no biases, which most families share.
BLOCK = (
    row("embedding.word_embeddings.weight", "model.embed_tokens.weight", "vocabulary hidden"),
    layer("input_layernorm.weight self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight", "hidden"),
    layer(
        "self_attention.linear_qkv.weight",
        "self_attn.q_proj.weight self_attn.k_proj.weight self_attn.v_proj.weight",
        "query_key_value hidden",
    ),
    layer("self_attention.linear_proj.weight", "self_attn.o_proj.weight", "hidden heads"),
    layer("pre_mlp_layernorm.weight mlp.linear_fc1.layer_norm_weight", "post_attention_layernorm.weight", "hidden"),
    layer("mlp.linear_fc1.weight", "mlp.gate_proj.weight mlp.up_proj.weight", "gate_up hidden"),
    layer("mlp.linear_fc2.weight", "mlp.down_proj.weight", "hidden feed_forward"),
    row("decoder.final_layernorm.weight", "model.norm.weight", "hidden"),
    row("output_layer.weight", "lm_head.weight", "vocabulary hidden"),
)

# config.json's key, the recipe's key in `model`, what Hugging Face takes when config.json has no such key.
SHAPE = (
    ("num_hidden_layers", "num_layers", MISSING),
    ("hidden_size", "hidden_size", MISSING),
    ("num_attention_heads", "num_attention_heads", MISSING),
    ("num_key_value_heads", "num_query_groups", None),
    ("intermediate_size", "ffn_hidden_size", MISSING),
    ("max_position_embeddings", "sequence_length", MISSING),
    ("initializer_range", "init_std", 0.02),
)


def indexed_rows(rows: tuple[Row, ...], num_layers: int, num_experts: int = 0) -> Iterator[tuple[Row, StackIndex]]:
    """Yield (row, index) in the order of the model; a tensor that is there once has the index ()."""
    once = [row for row in rows if not row.in_layers]
    yield once[0], ()
    for number in range(num_layers):
        for row in rows:
            if row.in_experts:
                yield from ((row, (number, expert)) for expert in range(num_experts))
            elif row.in_layers:
                yield row, (number,)
    yield from ((row, ()) for row in once[1:])


def without(table: tuple, *hugging_face: str) -> tuple:
    """Return a table without the rows whose Hugging Face name ends so."""
    return tuple(r for r in table if not r.hugging_face[0].endswith(hugging_face))


# What a model with biases on all its matrices has beside.
BIASES = (
    layer("self_attention.linear_qkv.bias", "self_attn.q_proj.bias self_attn.k_proj.bias self_attn.v_proj.bias", "query_key_value"),
    layer("self_attention.linear_proj.bias", "self_attn.o_proj.bias", "hidden"),
    layer("mlp.linear_fc1.bias", "mlp.gate_proj.bias mlp.up_proj.bias", "gate_up"),
    layer("mlp.linear_fc2.bias", "mlp.down_proj.bias", "hidden"),
)
# A mixture of experts in place of one MLP.
EXPERTS = (
    layer("mlp.router.weight", "mlp.gate.weight", "experts hidden"),
    layer("mlp.experts.experts.#.linear_fc1.weight", "mlp.experts.#.gate_proj.weight mlp.experts.#.up_proj.weight", "gate_up hidden"),
    layer("mlp.experts.experts.#.linear_fc2.weight", "mlp.experts.#.down_proj.weight", "hidden feed_forward"),
)
# BLOCK with norms of what attention and MLP give, and of all queries and all keys (OLMo 2 and 3).
OUTPUT_NORMED_BLOCK = (
    *without(BLOCK, "input_layernorm.weight", "post_attention_layernorm.weight"),
    layer("self_attention.q_layernorm.weight", "self_attn.q_norm.weight", "heads"),
    layer("self_attention.k_layernorm.weight", "self_attn.k_norm.weight", "groups"),
    layer("self_attn_bda.norm.weight", "post_attention_layernorm.weight", "hidden"),
    layer("mlp_bda.norm.weight", "post_feedforward_layernorm.weight", "hidden"),
)
# BLOCK with norms of what attention and MLP get, and of what they give (Gemma 2 and 3).
BOTH_NORMED_BLOCK = (
    *without(BLOCK, "post_attention_layernorm.weight"),
    layer("self_attn_bda.norm.weight", "post_attention_layernorm.weight", "hidden"),
    layer("pre_mlp_layernorm.weight mlp.linear_fc1.layer_norm_weight", "pre_feedforward_layernorm.weight", "hidden"),
    layer("mlp_bda.norm.weight", "post_feedforward_layernorm.weight", "hidden"),
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture of transformers."""

    model_type: str  # config.json's
    architecture: str  # the class of transformers
    tensors: tuple[Row, ...]
    biases: tuple[Row, ...] = ()  # those of a model with linear_bias
    config: tuple[tuple, ...]  # columns as in SHAPE
    fixed: dict = field(default_factory=dict)  # keys of `model` this family has no choice in, beside the recipe's defaults
    expected: dict = field(default_factory=dict)  # keys of config.json that must say this, or nothing
    rope_base: float = 10000.0  # when config.json is silent
    aliases: dict[str, str] = field(default_factory=dict)  # keys of config.json that other versions and readers know by another name
    same: dict[str, str] = field(default_factory=dict)  # keys of config.json that must say what another one says
    inverted: tuple[str, ...] = ()  # keys of config.json that divide where the recipe's multiply
    inverse_squares: tuple[str, ...] = ()  # keys of config.json whose root divides where the recipe's multiply
    scaled_embeddings: bool = False  # embeddings are multiplied by the root of the width, which no key says
    full_attention_interval: int | None = (
        None  # layer_types: every so many-th sees all, when config.json is silent; None: all layers are alike
    )
    without_rope: Literal["none", "listed", "full_attention"] = (
        "none"  # the layers without rotary positions: in no_rope_layers, or those that see all
    )
    says_head_dim: bool = False  # config.json says the width of a head although it follows from others: other readers look for it
    rope_scalings: tuple[str, ...] = ("linear", "llama3", "yarn")  # ways in which rotary frequencies may be scaled
    partial_rope: bool = False  # a share of each head's channels may turn
    rope_by_layer_type: bool = False  # rope_parameters has one block for each kind of layer
    window_rope_base: float | None = None  # of layers with a window, when config.json is silent; None: all layers rotate alike

    def rows(self, tie_embeddings: bool, linear_bias: bool = False) -> tuple[Row, ...]:
        """Return the rows of a model; with tied embeddings there is no output layer."""
        rows = self.tensors + (self.biases if linear_bias else ())
        return without(rows, "lm_head.weight") if tie_embeddings else rows
