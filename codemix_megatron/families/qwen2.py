"""Qwen2 and Qwen2.5: Llama with biases on query, key and value."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family, layer

__all__ = ["QWEN2"]

QWEN2 = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    tensors=(
        *BLOCK,
        layer("self_attention.linear_qkv.bias", "self_attn.q_proj.bias self_attn.k_proj.bias self_attn.v_proj.bias", "query_key_value"),
    ),
    config=(
        *SHAPE,
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", False),
    ),
    fixed={"qkv_bias": True},
    expected={"hidden_act": "silu", "use_sliding_window": False},
)
