"""Gemma 3's text model: Gemma 2 with norms of queries and keys in place of caps; layers with a window rotate by a base of their own."""

from codemix_megatron.families.family import BOTH_NORMED_BLOCK, SHAPE, Family, layer

__all__ = ["GEMMA3"]

GEMMA3 = Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    tensors=(
        *BOTH_NORMED_BLOCK,
        layer("self_attention.q_layernorm.weight", "self_attn.q_norm.weight", "head"),
        layer("self_attention.k_layernorm.weight", "self_attn.k_norm.weight", "head"),
    ),
    config=(
        *SHAPE,
        ("head_dim", "head_dim", 256),
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", True),
        ("sliding_window", "sliding_window", 4096),
        ("query_pre_attn_scalar", "attention_scale", 256),
        ("final_logit_softcapping", "logit_softcap", None),
    ),
    fixed={"norm_position": "both", "zero_centered_norm": True, "activation": "geglu", "qk_norm": True},
    expected={"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False, "attn_logit_softcapping": None},
    inverse_squares=("query_pre_attn_scalar",),
    scaled_embeddings=True,
    rope_base=1e6,
    full_attention_interval=6,
    rope_by_layer_type=True,
    window_rope_base=10000.0,
)
