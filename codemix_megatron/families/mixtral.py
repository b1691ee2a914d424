"""Mixtral: Mistral with a mixture of experts in every layer, under names of its own; a token's experts add up to 1."""

from codemix_megatron.families.family import BLOCK, SHAPE, Family, layer, without

__all__ = ["MIXTRAL"]

MOE = "block_sparse_moe"

MIXTRAL = Family(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    tensors=(
        *without(BLOCK, "gate_proj.weight", "down_proj.weight"),
        layer("mlp.router.weight", f"{MOE}.gate.weight", "experts hidden"),
        layer("mlp.experts.experts.#.linear_fc1.weight", f"{MOE}.experts.#.w1.weight {MOE}.experts.#.w3.weight", "gate_up hidden"),
        layer("mlp.experts.experts.#.linear_fc2.weight", f"{MOE}.experts.#.w2.weight", "hidden feed_forward"),
    ),
    config=(
        *SHAPE,
        ("head_dim", "head_dim", None),
        ("rms_norm_eps", "normalization_epsilon", 1e-5),
        ("tie_word_embeddings", "tie_embeddings", False),
        ("sliding_window", "sliding_window", None),
        ("num_local_experts", "num_experts", 8),
        ("num_experts_per_tok", "experts_per_token", 2),
        ("router_aux_loss_coef", "expert_balance", 0.001),
    ),
    fixed={"normalize_experts": True},
    expected={"hidden_act": "silu", "router_jitter_noise": 0.0},
    rope_base=1e6,
)
