"""Granite 3 and 4 (dense): Llama whose embeddings, scores of attention, residuals and logits are multiplied by constants."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family

__all__ = ["GRANITE"]

GRANITE = Family(
    model_type="granite",
    architecture="GraniteForCausalLM",
    tensors=BLOCK,
    config=(
        *SHAPE,
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("embedding_multiplier", "embedding_multiplier", 1.0),
        ("residual_multiplier", "residual_multiplier", 1.0),
        ("attention_multiplier", "attention_scale", 1.0),
        ("logits_scaling", "logit_scale", 1.0),
    ),
    expected={"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    inverted=("logits_scaling",),
)
