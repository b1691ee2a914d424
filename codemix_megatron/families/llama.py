"""Llama 2, 3, 3.1, 3.2, SmolLM2 and whatever else calls itself llama."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family

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
    ),
    expected={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
)
