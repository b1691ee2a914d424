"""OLMo 3: OLMo 2 with a sliding window in all layers but every fourth. Scaled positions in those alone cannot be read."""

from codemix_megatron.families.family import OUTPUT_NORMED_BLOCK, SHAPE, Family

__all__ = ["OLMO3"]

OLMO3 = Family(
    model_type="olmo3",
    architecture="Olmo3ForCausalLM",
    tensors=OUTPUT_NORMED_BLOCK,
    config=(
        *SHAPE,
        ("rms_norm_eps", "normalization_epsilon", 1e-5),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("sliding_window", "sliding_window", 4096),
    ),
    fixed={"norm_position": "after", "qk_norm": True, "qk_norm_width": "all"},
    expected={"hidden_act": "silu", "attention_bias": False},
    rope_base=500000.0,
    full_attention_interval=4,
    rope_scalings=(),
    rope_by_layer_type=True,
)
