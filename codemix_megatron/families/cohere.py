"""Cohere's Command R: the paper's own architecture. One LayerNorm without bias, attention and MLP side by side."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family, without

__all__ = ["COHERE"]

COHERE = Family(
    model_type="cohere",
    architecture="CohereForCausalLM",
    tensors=without(BLOCK, "post_attention_layernorm.weight"),
    config=(
        *SHAPE,
        ("layer_norm_eps", "normalization_epsilon", 1e-5),
        ("tie_word_embeddings", "tie_embeddings", True),
        ("logit_scale", "logit_scale", 0.0625),
    ),
    fixed={"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True},
    expected={"hidden_act": "silu", "attention_bias": False, "use_qk_norm": False},
    rope_base=500000.0,
)
