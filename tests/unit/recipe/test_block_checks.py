"""What no layer computes is refused with its key."""

from dataclasses import replace

import pytest

from codemix_megatron.recipe.block_checks import block_faults
from codemix_megatron.recipe.schema import Model, RopeScaling

MODEL = Model(num_layers=4, hidden_size=64, num_attention_heads=4, sequence_length=128)
YARN = RopeScaling(kind="yarn", factor=4.0, original_sequence_length=32)
LONG = RopeScaling(kind="longrope", factor=4.0, original_sequence_length=32, short_factors=(1.0,) * 6, long_factors=(2.0,) * 6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block": "parallel", "norm_position": "after"}, "model.norm_position: not there in a parallel block"),
        ({"block": "parallel", "residual_multiplier": 0.5}, "model.residual_multiplier: not there"),
        ({"block": "parallel", "linear_bias": True}, "model.linear_bias: not there"),
        ({"qk_norm_width": "all"}, "model.qk_norm_width: all, but there is no qk_norm"),
        ({"full_attention_interval": 4}, "model.full_attention_interval: no layer has a window"),
        ({"sliding_window": 8, "full_attention_interval": 1}, "model.full_attention_interval: found 1, must be at least 2"),
        ({"no_rope_interval": 4, "rope_scaling": YARN}, "model.no_rope_interval: yarn changes attention in every layer"),
        ({"block": "parallel", "norm_position": "both"}, "model.norm_position: not there in a parallel block"),
        ({"zero_centered_norm": True, "normalization": "layernorm"}, "model.zero_centered_norm: not there with normalization layernorm"),
        ({"window_rope_base": 1e4}, "model.window_rope_base: no layer has a window"),
        ({"window_rope_base": 1e4, "sliding_window": 8, "rope_scaling": YARN}, "model.window_rope_base: yarn changes attention in every"),
        ({"window_rope_base": 1e4, "sliding_window": 8, "rotary_interleaved": True}, "window_rope_base: not there with rotary_interleaved"),
        ({"rotary_share": 0.7}, "model.rotary_share: found 0.7, must leave an even number of 16 channels"),
        ({"rope_scaling": replace(LONG, long_factors=(2.0,) * 8)}, "model.rope_scaling.short_factors: 6 numbers, 8 frequencies turn"),
        ({"rope_scaling": LONG, "rotary_share": 0.75, "sequence_length": 129}, "model.sequence_length: 129, longrope's factor allows 128"),
        ({"rope_scaling": replace(LONG, long_factors=None), "rotary_share": 0.75}, "long_factors: missing; kind longrope needs it"),
        ({"attention_softcap": 0.0}, "model.attention_softcap: found 0.0, must be above 0"),
        ({"attention_scale": 0.0}, "model.attention_scale: found 0.0, must be above 0"),
        ({"embedding_multiplier": float("inf")}, "model.embedding_multiplier: found inf"),
        ({"rope_scaling": replace(YARN, original_sequence_length=None)}, "original_sequence_length: missing; kind yarn needs it"),
        ({"rope_scaling": replace(YARN, low_frequency_factor=1.0)}, "low_frequency_factor: belongs to kind llama3; leave it out"),
        ({"rope_scaling": replace(YARN, slow_rotations=40.0)}, "fast_rotations: 32.0 is not above slow_rotations 40.0"),
        ({"rope_scaling": RopeScaling(kind="linear", factor=2.0, attention_factor=1.0)}, "attention_factor: belongs to kind yarn"),
        (
            {"rope_scaling": RopeScaling(kind="linear", factor=2.0, original_sequence_length=8)},
            "belongs to kind llama3 and yarn and longrope",
        ),
    ],
)
def test_what_no_layer_computes_is_refused_with_its_key(changes, words):
    faults = block_faults(replace(MODEL, **changes))
    assert len(faults) == 1 and words in faults[0], faults


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sliding_window": 8, "full_attention_interval": 4, "no_rope_interval": 4},
        {"qk_norm": True, "qk_norm_width": "all", "norm_position": "after"},
        {"rope_scaling": LONG, "rotary_share": 0.75},
        {"norm_position": "both", "zero_centered_norm": True, "sliding_window": 8, "window_rope_base": 1e4},
        {"rope_scaling": replace(YARN, attention_factor=1.2, fast_rotations=16.0)},
    ],
)
def test_what_layers_compute_passes(changes):
    assert block_faults(replace(MODEL, **changes)) == []
