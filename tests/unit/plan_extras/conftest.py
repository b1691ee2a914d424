"""These tests share plans of the presets and a small recipe."""

import pytest
import yaml

RECIPE = {
    "name": "small",
    "model": {"num_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "num_query_groups": 2, "sequence_length": 64, "rope_base": 2e4},
    "parallel": {"tensor": 2},
    "batch": {"global_sequences": 8, "micro_sequences": 2},
    "tokenizer": {"path": "tokenizer.json"},
    "corpora": {"prose": {}, "web": {"kind": "code"}},
    "phases": [
        {
            "name": "first",
            "tokens": "64K",
            "mixture": {"prose": 0.75, "web": 0.25},
            "learning_rate": {"schedule": "cosine", "peak": 1e-3, "warmup_tokens": 5120},
        },
        {
            "name": "last",
            "tokens": "16K",
            "mixture": {"prose": 1.0},
            "learning_rate": {"schedule": "wsd", "peak": 1e-3, "decay_share": 0.5},
        },
    ],
}


@pytest.fixture
def small_recipe(tmp_path):
    """Write the small recipe and return its path."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    return path
