"""OLMo 2: norms of what attention and MLP give instead of what they get, and over whole queries and keys."""

from codemix_megatron.families.family import OUTPUT_NORMED_BLOCK, SHAPE, Family

__all__ = ["OLMO2"]

OLMO2 = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    tensors=OUTPUT_NORMED_BLOCK,
    config=(
        *SHAPE,
        ("rms_norm_eps", "normalization_epsilon", 1e-5),
        ("tie_word_embeddings", "tie_embeddings", False),
    ),
    fixed={"norm_position": "after", "qk_norm": True, "qk_norm_width": "all"},
    expected={"hidden_act": "silu", "attention_bias": False},
)
