"""The models that the simulation trains: of both blocks, with another value of each key of a recipe's model block, and of every kind of family.

Each is what `many_layouts.recipe_of` takes beside its small shape.
"""

__all__ = ["BLOCKS", "KEYS", "KINDS", "MODELS", "WIDE"]

BLOCKS: dict[str, dict] = {
    "sequential": {},
    "parallel": {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True},
}
MODELS: dict[str, dict] = {
    **BLOCKS,
    "parallel rmsnorm": {"block": "parallel"},
    "sequential layernorm": {"normalization": "layernorm"},
    "qk norm": {"qk_norm": True},
    "qk layernorm": {"qk_norm": True, "normalization": "layernorm"},
}
WIDE = {"hidden_size": 256, "ffn_hidden_size": 512, "precision": "bf16"}  # FP8 products want multiples of 16

EXPERTS = {"num_experts": 4, "experts_per_token": 2, "qk_norm": True}
# Another value of each key than its default, with what it needs beside it. Left out: what the rest of the check is about (precision, fp8), and
# dropout, which draws other numbers.
KEYS: dict[str, dict] = {
    "num_layers": {"num_layers": 3},
    "hidden_size": {"hidden_size": 128},
    "num_attention_heads": {"num_attention_heads": 8},
    "sequence_length": {"sequence_length": 32},
    "num_query_groups": {"num_query_groups": 1},
    "head_dim": {"head_dim": 32},
    "ffn_hidden_size": {"ffn_hidden_size": 320},
    "block": {"block": "parallel"},
    "normalization": {"normalization": "layernorm_with_bias"},
    "zero_centered_norm": {"zero_centered_norm": True},
    "activation": {"activation": "geglu"},
    "linear_bias": {"linear_bias": True},
    "norm_position": {"norm_position": "after"},
    "qkv_bias": {"qkv_bias": True},
    "qk_norm": {"qk_norm": True},
    "qk_norm_width": {"qk_norm": True, "qk_norm_width": "all"},
    "sliding_window": {"sliding_window": 12},
    "full_attention_interval": {"sliding_window": 12, "full_attention_interval": 2},
    "no_rope_interval": {"no_rope_interval": 2},
    "num_experts": EXPERTS,
    "experts_per_token": {**EXPERTS, "experts_per_token": 3},
    "normalize_experts": {**EXPERTS, "normalize_experts": True},
    "expert_balance": {**EXPERTS, "expert_balance": 0.1},
    "tie_embeddings": {"tie_embeddings": False},
    "logit_scale": {"logit_scale": 0.25},
    "embedding_multiplier": {"embedding_multiplier": 12.0},
    "residual_multiplier": {"residual_multiplier": 0.22},
    "attention_scale": {"attention_scale": 0.1},
    "attention_softcap": {"attention_softcap": 2.0},
    "logit_softcap": {"logit_softcap": 3.0},
    "rope_base": {"rope_base": 5e5},
    "window_rope_base": {"sliding_window": 12, "full_attention_interval": 2, "window_rope_base": 1e5},
    "rotary_share": {"rotary_share": 0.5},
    "rotary_interleaved": {"rotary_interleaved": True},
    "rope_scaling": {"rope_scaling": {"kind": "yarn", "factor": 4.0, "original_sequence_length": 16}},
    "normalization_epsilon": {"normalization_epsilon": 1e-2},
    "init_std": {"init_std": 0.1},
    "vocab_size": {"vocab_size": 300},
    "vocab_padding_multiple": {"vocab_padding_multiple": 100},
}

GEMMA = {
    "norm_position": "both", "zero_centered_norm": True, "activation": "geglu", "head_dim": 32, "embedding_multiplier": 8.0,
    "attention_scale": 20**-0.5, "normalization_epsilon": 1e-6, "init_std": 0.1,
}  # fmt: skip
WINDOWS = {"sliding_window": 12, "full_attention_interval": 2}
LONGROPE = {
    "kind": "longrope", "factor": 4.0, "original_sequence_length": 16, "short_factors": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factors": [1.0, 1.5, 2.0, 4.0, 8.0, 16.0],
}  # fmt: skip
# What families are made of; where Transformer Engine does not compute a part, the run says which.
KINDS: dict[str, dict] = {
    "Llama 3.1": {"rope_scaling": {"kind": "llama3", "factor": 8.0, "low_frequency_factor": 1.0, "high_frequency_factor": 4.0,
                                   "original_sequence_length": 16}, "rope_base": 5e5, "tie_embeddings": False},
    "Mistral": WINDOWS | {"full_attention_interval": None, "tie_embeddings": False},
    "Qwen2": {"qkv_bias": True},
    "Qwen3": {"qk_norm": True, "head_dim": 32},
    "SmolLM3": {"no_rope_interval": 2},
    "Granite": {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_scale": 0.1, "logit_scale": 0.08},
    "Cohere 2": {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True, "logit_scale": 0.25, "no_rope_interval": 2,
                 **WINDOWS},
    "OLMo 2": {"norm_position": "after", "qk_norm": True, "qk_norm_width": "all", "tie_embeddings": False},
    "OLMo 3": {"norm_position": "after", "qk_norm": True, "qk_norm_width": "all", "tie_embeddings": False, **WINDOWS},
    "StarCoder2": {"normalization": "layernorm_with_bias", "activation": "gelu", "linear_bias": True, "sliding_window": 12},
    "Gemma": {key: value for key, value in GEMMA.items() if key not in ("norm_position", "attention_scale")},
    "Gemma 2": {**GEMMA, **WINDOWS, "attention_softcap": 2.0, "logit_softcap": 3.0},
    "Gemma 3": {**GEMMA, **WINDOWS, "qk_norm": True, "rope_base": 1e6, "window_rope_base": 1e4,
                "rope_scaling": {"kind": "linear", "factor": 8.0}},
    "Phi-3, a part of each head turns": {"tie_embeddings": False, "rotary_share": 0.75},
    "Phi-3, longrope": {"tie_embeddings": False, "rotary_share": 0.75, "rope_scaling": LONGROPE},
    "OLMoE": {**EXPERTS, "qk_norm_width": "all", "tie_embeddings": False},
    "Mixtral": {key: value for key, value in EXPERTS.items() if key != "qk_norm"} | {"normalize_experts": True, "tie_embeddings": False},
    "Qwen3-MoE": {**EXPERTS, "normalize_experts": True, "tie_embeddings": False},
}  # fmt: skip
