"""OLMoE: a mixture of experts in every layer, and norms over whole queries and keys."""

from codemix_megatron.families.family import BLOCK, EXPERTS, SHAPE, Family, layer, without

__all__ = ["OLMOE"]

OLMOE = Family(
    model_type="olmoe",
    architecture="OlmoeForCausalLM",
    tensors=(
        *without(BLOCK, "gate_proj.weight", "down_proj.weight"),
        *EXPERTS,
        layer("self_attention.q_layernorm.weight", "self_attn.q_norm.weight", "heads"),
        layer("self_attention.k_layernorm.weight", "self_attn.k_norm.weight", "groups"),
    ),
    config=(
        *SHAPE,
        ("rms_norm_eps", "normalization_epsilon", 1e-5),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("num_experts", "num_experts", 64),
        ("num_experts_per_tok", "experts_per_token", 8),
        ("norm_topk_prob", "normalize_experts", False),
        ("router_aux_loss_coef", "expert_balance", 0.01),
    ),
    fixed={"qk_norm": True, "qk_norm_width": "all"},
    expected={"hidden_act": "silu", "attention_bias": False, "clip_qkv": None},
)
