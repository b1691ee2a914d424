"""Qwen3, with a mixture of experts in every layer."""

from codemix_megatron.families.family import BLOCK, EXPERTS, MISSING, SHAPE, Family, layer, without

__all__ = ["QWEN3_MOE"]

QWEN3_MOE = Family(
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    tensors=(
        *without(BLOCK, "gate_proj.weight", "down_proj.weight"),
        *EXPERTS,
        layer("self_attention.q_layernorm.weight", "self_attn.q_norm.weight", "head"),
        layer("self_attention.k_layernorm.weight", "self_attn.k_norm.weight", "head"),
    ),
    config=(
        *(column for column in SHAPE if column[0] != "intermediate_size"),
        ("moe_intermediate_size", "ffn_hidden_size", MISSING),
        ("head_dim", "head_dim", None),
        ("rms_norm_eps", "normalization_epsilon", 1e-6),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("num_experts", "num_experts", 128),
        ("num_experts_per_tok", "experts_per_token", 8),
        ("norm_topk_prob", "normalize_experts", False),
        ("router_aux_loss_coef", "expert_balance", 0.001),
    ),
    aliases={"num_experts": "num_local_experts", "moe_intermediate_size": "intermediate_size"},
    fixed={"qk_norm": True},
    expected={
        "hidden_act": "silu",
        "attention_bias": False,
        "use_sliding_window": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
)
