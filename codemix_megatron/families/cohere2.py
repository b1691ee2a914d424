"""Cohere's Command R7B and A: Cohere's block; every fourth layer sees all and has no rotary positions, the others have a window."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family, without

__all__ = ["COHERE2"]

COHERE2 = Family(
    model_type="cohere2",
    architecture="Cohere2ForCausalLM",
    tensors=without(BLOCK, "post_attention_layernorm.weight"),
    config=(
        *SHAPE,
        ("layer_norm_eps", "normalization_epsilon", 1e-5),
        ("tie_word_embeddings", "tie_embeddings", True),
        ("logit_scale", "logit_scale", 0.0625),
        ("sliding_window", "sliding_window", 4096),
    ),
    fixed={"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True},
    expected={"hidden_act": "silu", "attention_bias": False},
    full_attention_interval=4,
    says_head_dim=True,
    without_rope="full_attention",
)
