"""SmolLM3: Llama without rotary positions in every fourth layer."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family

__all__ = ["SMOLLM3"]

SMOLLM3 = Family(
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    tensors=BLOCK,
    config=(
        *SHAPE,
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", True),
    ),
    expected={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False},
    rope_base=2000000.0,
    without_rope="listed",
)
