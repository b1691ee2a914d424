"""Llama 2, 3, 3.1, 3.2, SmolLM2, Granite Code (with biases) and whatever else calls itself llama."""

from codemix_megatron.families.family import BIASES, BLOCK, SHAPE, Family

__all__ = ["LLAMA"]

LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    tensors=BLOCK,
    config=(
        *SHAPE,
        ("head_dim", "head_dim", None),
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("attention_bias", "linear_bias", False),
    ),
    biases=BIASES,
    expected={"hidden_act": "silu"},
    same={"mlp_bias": "attention_bias"},
)
