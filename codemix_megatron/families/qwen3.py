"""Qwen3, dense: Llama with an RMSNorm on each head of query and key, and heads of a size of their own."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family, layer

__all__ = ["QWEN3"]

QWEN3 = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    tensors=(
        *BLOCK,
        layer("self_attention.q_layernorm.weight", "self_attn.q_norm.weight", "head"),
        layer("self_attention.k_layernorm.weight", "self_attn.k_norm.weight", "head"),
    ),
    config=(
        *SHAPE,
        ("head_dim", "head_dim", 128),
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", False),
    ),
    fixed={"qk_norm": True},
    expected={"hidden_act": "silu", "attention_bias": False, "use_sliding_window": False},
)
