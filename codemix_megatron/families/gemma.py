"""Gemma 1: Llama's tensors with GeGLU, norms of 1 + w, wide heads and embeddings times the root of the width."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family

__all__ = ["GEMMA"]

GEMMA = Family(
    model_type="gemma",
    architecture="GemmaForCausalLM",
    tensors=BLOCK,
    config=(
        *SHAPE,
        ("head_dim", "head_dim", 256),
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", True),
    ),
    fixed={"zero_centered_norm": True, "activation": "geglu"},
    expected={"hidden_act": "gelu_pytorch_tanh", "attention_bias": False},  # of "gelu" transformers 4 and 5 think differently
    scaled_embeddings=True,
)
