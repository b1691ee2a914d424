"""Gemma 2: norms of 1 + w before and after attention and MLP, GeGLU, every second layer with a window, scores and logits below a cap."""

from codemix_megatron.families.family import BOTH_NORMED_BLOCK, SHAPE, Family

__all__ = ["GEMMA2"]

GEMMA2 = Family(
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    tensors=BOTH_NORMED_BLOCK,
    config=(
        *SHAPE,
        ("head_dim", "head_dim", 256),
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", True),
        ("sliding_window", "sliding_window", 4096),
        ("query_pre_attn_scalar", "attention_scale", 256),
        ("attn_logit_softcapping", "attention_softcap", 50.0),
        ("final_logit_softcapping", "logit_softcap", 30.0),
    ),
    fixed={"norm_position": "both", "zero_centered_norm": True, "activation": "geglu"},
    expected={"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False},
    inverse_squares=("query_pre_attn_scalar",),
    scaled_embeddings=True,
    full_attention_interval=2,
)
