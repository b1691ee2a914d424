"""The shape of a model: what block `model` of a recipe may say."""

from dataclasses import dataclass
from typing import Literal

from codemix_megatron.recipe.fields import option

__all__ = ["Model", "RopeScaling"]


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Rotary frequencies of a model whose context was stretched after its first training."""

    kind: Literal["linear", "llama3", "yarn", "longrope"] = option(
        "all frequencies divided; only the slow ones, as in Llama 3.1; by YaRN's ramp; or each by a number of its own (Phi-3)"
    )
    factor: float = option("slow frequencies are divided by this; longrope: longest context / first context")
    low_frequency_factor: float | None = option("llama3 only: slower than original_sequence_length / this is divided", None)
    high_frequency_factor: float | None = option("llama3 only: faster than original_sequence_length / this is kept", None)
    original_sequence_length: int | None = option("llama3, yarn and longrope: context of the first training", None)
    fast_rotations: float | None = option("yarn only: what turns so often in the first context is kept (beta_fast); default: 32", None)
    slow_rotations: float | None = option("yarn only: what turns less often is divided (beta_slow); default: 1", None)
    attention_factor: float | None = option("yarn only: queries and keys are multiplied by this; default: 1 + 0.1 ln(factor)", None)
    short_factors: tuple[float, ...] | None = option("longrope only: what each frequency is divided by within the first context", None)
    long_factors: tuple[float, ...] | None = option("longrope only: and in longer sequences", None)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder with SwiGLU, rotary positions and grouped-query attention; Llama's block, its relatives' or the paper's.

    `shape: 10m`, `50m`, `470m` or `2.8b` stands for all keys of a model of the paper's kind; keys beside it win.
    """

    num_layers: int = option("transformer layers")
    hidden_size: int = option("width of the residual stream")
    num_attention_heads: int = option("query heads")
    sequence_length: int = option("tokens the model sees at once")
    num_query_groups: int | None = option("key/value heads; default: one per query head", None)
    head_dim: int | None = option("width of one attention head; default: hidden / heads", None)
    ffn_hidden_size: int | None = option("inner width of the MLP; default: 8/3 hidden, rounded up to 64", None)
    block: Literal["sequential", "parallel"] = option(
        "attention then MLP, each with its norm, or both side by side on one norm: x + attention(norm(x)) + mlp(norm(x))", "sequential"
    )
    normalization: Literal["rmsnorm", "layernorm", "layernorm_with_bias"] = option(
        "norm of layers and output; layernorm has a weight and no bias", "rmsnorm"
    )
    zero_centered_norm: bool = option("norms multiply by 1 + weight (Gemma)", False)
    activation: Literal["swiglu", "geglu", "gelu"] = option(
        "of the MLP: SwiGLU; GeGLU, which has GELU by its tanh form in place of SiLU (Gemma); or that GELU with one matrix before it",
        "swiglu",
    )
    linear_bias: bool = option("biases on all matrices of attention and MLP (StarCoder2, Granite Code)", False)
    norm_position: Literal["before", "after", "both"] = option(
        "norm of what goes into attention and MLP, of what comes out of them (OLMo 2: x + norm(attention(x))), or of both (Gemma)", "before"
    )
    qkv_bias: bool = option("biases on query, key and value (Qwen2)", False)
    qk_norm: bool = option("norm on each head of query and key (Qwen3)", False)
    qk_norm_width: Literal["head", "all"] = option("qk_norm over each head by itself, or over all of query and all of key (OLMo 2)", "head")
    sliding_window: int | None = option("tokens a token sees, itself included (Mistral 7B 0.1); default: all before it", None)
    full_attention_interval: int | None = option(
        "every so many-th layer has no sliding window (OLMo 3, Cohere2 4); default: all have it", None
    )
    no_rope_interval: int | None = option(
        "every so many-th layer has no rotary positions (SmolLM3, Cohere2 4); default: all have them", None
    )
    num_experts: int | None = option(
        "experts of each layer, each an MLP of ffn_hidden_size, of which a router chooses (OLMoE, Qwen3-MoE); default: one MLP for all",
        None,
    )
    experts_per_token: int | None = option("experts that each token goes through", None)
    normalize_experts: bool = option(
        "the weights of a token's experts add up to 1 (Qwen3-MoE), or to what softmax over all leaves them", False
    )
    expert_balance: float = option(
        "added to the loss of training in each layer: this times the experts' share of tokens x their mean probability, 1 when all are equal",
        0.01,
    )
    tie_embeddings: bool = option("share input and output embedding", True)
    logit_scale: float = option("logits are multiplied by this", 1.0)
    embedding_multiplier: float = option("embeddings are multiplied by this (Granite)", 1.0)
    residual_multiplier: float = option("what attention and MLP add to the residual stream is multiplied by this (Granite)", 1.0)
    attention_scale: float | None = option(
        "scores of attention are multiplied by this (Granite); default: 1 / root of the head's width", None
    )
    attention_softcap: float | None = option(
        "scores of attention are squeezed below this by its tanh (Gemma 2); default: as they are", None
    )
    logit_softcap: float | None = option("logits are squeezed below this by its tanh (Gemma 2); default: as they are", None)
    rope_base: float = option("base of the rotary frequencies", 10000.0)
    window_rope_base: float | None = option(
        "base of the rotary frequencies in layers with a sliding window, which rope_scaling leaves alone (Gemma 3); default: as in all",
        None,
    )
    rotary_share: float = option("share of each head's channels that rotary positions turn, the first ones (Phi-4-mini)", 1.0)
    rotary_interleaved: bool = option("rotate neighbouring channels (Cohere, GPT-J) instead of halves (Llama)", False)
    rope_scaling: RopeScaling | None = option("stretched rotary frequencies (Llama 3.1)", None)
    normalization_epsilon: float = option("epsilon of the norms", 1e-5)
    init_std: float = option("standard deviation of initial weights", 0.02)
    dropout: float = option("share of activations and attention set to zero while training", 0.0)
    vocab_size: int | None = option(
        "ids the embedding has, where a public model has more than its tokenizer; default: the tokenizer's", None
    )
    vocab_padding_multiple: int = option("embedding rows are padded to a multiple of this", 128)
    precision: Literal["fp32", "bf16"] = option("dtype of weights in forward and backward", "fp32")
    fp8: Literal["off", "tensorwise", "delayed"] = option("matrix products in FP8, by how they are scaled; needs Transformer Engine", "off")

    @classmethod
    def from_plain(cls, plain: dict) -> "Model":
        """Return the model a checkpoint's metadata describes; that of earlier versions lacks newer keys."""
        scaling = plain.get("rope_scaling")
        if scaling:
            scaling = {key: tuple(value) if isinstance(value, list) else value for key, value in scaling.items()}
        return cls(**{**plain, "rope_scaling": RopeScaling(**scaling) if scaling else None})

    @property
    def query_groups(self) -> int:
        """Key/value heads, default resolved."""
        return self.num_query_groups or self.num_attention_heads

    @property
    def ffn_size(self) -> int:
        """Inner width of the MLP, default resolved."""
        return self.ffn_hidden_size or -(-8 * self.hidden_size // (3 * 64)) * 64

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    def has_window(self, layer_number: int) -> bool:
        """Say whether a layer, counted from 1, has a sliding window, be it longer than a sequence."""
        every = self.full_attention_interval
        return self.sliding_window is not None and not (every and layer_number % every == 0)

    @property
    def rotary_size(self) -> int:
        """Channels of a head that rotary positions turn."""
        return int(self.head_size * self.rotary_share)

    @property
    def mlps_per_token(self) -> int:
        """MLPs that each token goes through: one, or its experts."""
        return self.experts_per_token or 1

    @property
    def first_matrices(self) -> int:
        """Matrices into the MLP: gate and up, or one."""
        return 1 if self.activation == "gelu" else 2

    def ids(self, tokenizer_ids: int) -> int:
        """Return the ids the embedding has for a tokenizer of so many."""
        return max(tokenizer_ids, self.vocab_size or 0)

    def padded_vocab_size(self, vocab_size: int) -> int:
        """Return the embedding rows for a tokenizer of `vocab_size` ids."""
        return -(-self.ids(vocab_size) // self.vocab_padding_multiple) * self.vocab_padding_multiple
