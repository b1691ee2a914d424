"""StarCoder2: LayerNorm, biases everywhere, an MLP with GELU and one matrix before it, sometimes a sliding window."""

from codemix_megatron.families.family import BIASES, BLOCK, SHAPE, Family, layer, row, without

__all__ = ["STARCODER2"]

STARCODER2 = Family(
    model_type="starcoder2",
    architecture="Starcoder2ForCausalLM",
    tensors=(
        *without(BLOCK, "gate_proj.weight", "down_proj.weight"),
        layer("input_layernorm.bias self_attention.linear_qkv.layer_norm_bias", "input_layernorm.bias", "hidden"),
        layer("pre_mlp_layernorm.bias mlp.linear_fc1.layer_norm_bias", "post_attention_layernorm.bias", "hidden"),
        row("decoder.final_layernorm.bias", "model.norm.bias", "hidden"),
        layer("mlp.linear_fc1.weight", "mlp.c_fc.weight", "feed_forward hidden"),
        layer("mlp.linear_fc2.weight", "mlp.c_proj.weight", "hidden feed_forward"),
    ),
    biases=(
        *without(BIASES, "gate_proj.bias", "down_proj.bias"),
        layer("mlp.linear_fc1.bias", "mlp.c_fc.bias", "feed_forward"),
        layer("mlp.linear_fc2.bias", "mlp.c_proj.bias", "hidden"),
    ),
    config=(
        *SHAPE,
        ("norm_epsilon", "normalization_epsilon", 1e-5),
        ("tie_word_embeddings", "tie_embeddings", True),
        ("use_bias", "linear_bias", True),
        ("sliding_window", "sliding_window", None),
    ),
    fixed={"normalization": "layernorm_with_bias", "activation": "gelu"},
    expected={"hidden_act": "gelu_pytorch_tanh"},
)
