"""Each key of a config.json that moves the logits of transformers is heard or refused here: wrong without an error is the worst."""

import copy
import json

import pytest
import torch
from family_models import FAMILIES, SHAPE

from codemix_megatron.errors import ConversionError
from codemix_megatron.families.configuration import model_of_config

LAYERS = SHAPE["num_hidden_layers"]
IDS = {"bos_token_id": 257, "eos_token_id": 256, "pad_token_id": 258}
ROPE = {"rope_theta": 10000.0, "original_max_position_embeddings": 16}
# Keys that model code looks for although some configurations do not declare them.
BESIDE = (
    "is_causal", "use_bidirectional_attention", "partial_rotary_factor", "rope_theta", "rope_scaling", "rope_local_base_freq",
    "original_max_position_embeddings", "sliding_window", "sliding_window_pattern", "use_sliding_window", "max_window_layers", "layer_types",
    "no_rope_layers", "no_rope_layer_interval", "head_dim", "attention_bias", "mlp_bias", "use_bias", "use_qk_norm", "clip_qkv",
    "hidden_act", "hidden_activation", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "logit_scale",
    "embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling", "norm_topk_prob", "decoder_sparse_step",
    "mlp_only_layers", "router_jitter_noise",
)  # fmt: skip
NO_MODEL = {"model_type", "vocab_size", "architectures", "dtype", "output_hidden_states", "output_attentions", "return_dict"}


def other_values(key: str, value) -> list:
    """Return what a key might say instead."""
    if key == "layer_types":
        kinds = ["sliding_attention", "full_attention"]
        return [kinds[:1] * LAYERS, kinds[1:] * LAYERS, kinds * (LAYERS // 2), kinds[::-1] * (LAYERS // 2)]
    if key == "no_rope_layers":
        return [[1] * LAYERS, [0, 1] * (LAYERS // 2), [1, 0] * (LAYERS // 2)]
    if key in ("hidden_act", "hidden_activation"):
        return ["gelu", "relu", "silu", "gelu_pytorch_tanh"]
    if key in ("rope_scaling", "rope_parameters"):
        scaled = ({"rope_type": "linear", "factor": 2.0}, {"type": "linear", "factor": 2.0}, {"rope_type": "dynamic", "factor": 4.0},
                  {"rope_type": "yarn", "factor": 4.0, "truncate": False}, {"rope_type": "default", "partial_rotary_factor": 0.5},
                  {"rope_type": "default", "rope_theta": 77.0})  # fmt: skip
        return [ROPE | one for one in scaled]
    others = [True, False] if isinstance(value, bool) or value is None else []
    others += [2, 0.5, 16] if value is None else []
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return others + ([value * 2, value / 2 if isinstance(value, float) else max(1, value // 2)] if is_number else [])


def logits_of(model_type: str, config: dict, weights: dict | None = None) -> tuple[dict, dict, torch.Tensor | None]:
    """Return configuration, weights and logits of a model with these weights, or with random ones; no logits where weights do not fit."""
    from transformers import AutoConfig, AutoModelForCausalLM

    read = AutoConfig.for_model(model_type, **copy.deepcopy({key: value for key, value in config.items() if key != "model_type"}))
    model = AutoModelForCausalLM.from_config(read).eval()
    own = model.state_dict()
    if weights is None:
        torch.manual_seed(0)
        weights = {name: torch.randn_like(weight) * 0.3 + (1 if "norm" in name else 0) for name, weight in own.items()}
    if {name: weight.shape for name, weight in own.items()} != {name: weight.shape for name, weight in weights.items()}:
        return config, weights, None
    model.load_state_dict(weights)
    with torch.no_grad():
        return json.loads(json.dumps(model.config.to_dict())), model.state_dict(), model(torch.arange(100)[None] * 7 % 256).logits


def read_here(config: dict) -> dict | None:
    """Return the model block of a config.json, None where it is refused."""
    try:
        return model_of_config(copy.deepcopy(config), "here")
    except ConversionError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_key_that_moves_logits_is_heard_or_refused(name, measured):
    model_type, own = FAMILIES[name]
    config, weights, logits = logits_of(model_type, {**SHAPE, **own, **IDS})
    ours, unheard, tried = read_here(config), [], 0
    assert ours is not None
    for key in dict.fromkeys((*config, *BESIDE)):
        for value in other_values(key, config.get(key)) if key not in NO_MODEL else []:
            try:
                *_, moved = logits_of(model_type, {**config, key: value}, weights)
            except Exception:  # whatever transformers refuses is no question
                continue
            tried += 1
            if (moved is None or not torch.equal(moved, logits)) and read_here({**config, key: value}) == ours:
                unheard.append(f"{key}: {config.get(key)!r} -> {value!r}")
    measured(f"{name:<29} {tried} changes of config.json that transformers reads, {len(unheard)} that move its logits and go unheard")
    assert not unheard and tried > 100


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("llama", {"is_causal": False}, "is_causal False; only True can be read"),
        ("qwen2, tied", {"use_bidirectional_attention": True}, "use_bidirectional_attention True; only False can be read"),
        ("llama 3.1", {"original_max_position_embeddings": 64}, "original_max_position_embeddings 64 beside 32 in the rotary scaling"),
        ("qwen2, tied", {"head_dim": 32}, "head_dim 32; only hidden_size / num_attention_heads can be read of qwen2"),
    ],
)
def test_what_would_make_another_model_is_refused_by_name(name, said, words):
    from transformers import AutoConfig

    model_type, own = copy.deepcopy(FAMILIES[name])
    config = json.loads(json.dumps(AutoConfig.for_model(model_type, **{**SHAPE, **own, **IDS}).to_dict()))
    assert model_of_config({**config, **dict.fromkeys(said)}, "here") == model_of_config(config, "here")  # null says nothing
    with pytest.raises(ConversionError, match=words):
        model_of_config({**config, **said}, "here")


def test_a_model_of_a_windowed_family_without_any_window_is_still_read_by_transformers():
    from codemix_megatron.families.configuration import config_of_model
    from codemix_megatron.families.registry import FAMILIES as KNOWN

    own = {**FAMILIES["olmo3, window 16"][1], "layer_types": ["full_attention"] * LAYERS}
    config, weights, logits = logits_of("olmo3", {**SHAPE, **own, **IDS})
    model = read_here(config)
    assert model is not None and model.get("sliding_window") is None
    usual = {"full_attention_interval": None, "sliding_window": None, "head_dim": None, "rope_scaling": None}
    exported = config_of_model(KNOWN["olmo3"], {**usual, **model}, SHAPE["vocab_size"])
    assert torch.equal(logits_of("olmo3", {**exported, **IDS}, weights)[2], logits)
