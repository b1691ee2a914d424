"""Mistral 7B and Nemo: Llama's tensors, sometimes a sliding window, heads that need not add up to the width."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family

__all__ = ["MISTRAL"]

MISTRAL = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    tensors=BLOCK,
    config=(
        *SHAPE,
        ("head_dim", "head_dim", None),
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("sliding_window", "sliding_window", 4096),
    ),
    expected={"hidden_act": "silu"},
)
