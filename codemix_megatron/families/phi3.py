"""Phi-3 and Phi-4: Llama whose query, key and value, and gate and up, are one tensor each; longrope, and heads that turn in part."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family, layer, without

__all__ = ["PHI3"]

PHI3 = Family(
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    tensors=(
        *without(BLOCK, "q_proj.weight", "gate_proj.weight"),
        layer("self_attention.linear_qkv.weight", "self_attn.qkv_proj.weight", "query_key_value hidden"),
        layer("mlp.linear_fc1.weight", "mlp.gate_up_proj.weight", "gate_up hidden"),
    ),
    config=(
        *SHAPE,
        ("rms_norm_eps", "normalization_epsilon", 1e-5),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("sliding_window", "sliding_window", None),
    ),
    expected={"hidden_act": "silu"},
    rope_scalings=("longrope",),
    partial_rope=True,
)
