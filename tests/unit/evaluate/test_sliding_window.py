"""A model with a sliding window is asked no more than the window holds, where every mask is the causal one."""

from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.mark.parametrize(
    ("family", "settings", "length"),
    [
        ("MistralConfig", {"sliding_window": 16}, 16),
        ("MistralConfig", {"sliding_window": None}, 64),
        ("Qwen2Config", {"sliding_window": 16, "use_sliding_window": False}, 64),
        ("LlamaConfig", {}, 64),
    ],
)
def test_model_sees_at_most_its_window(family, settings, length):
    import transformers

    from codemix_megatron.inference.exported import ExportedModel

    config = getattr(transformers, family)(max_position_embeddings=64, **settings)
    model = ExportedModel(folder=Path("."), model=SimpleNamespace(config=config), tokenizer=None, device="cpu")
    assert model.max_length == length
