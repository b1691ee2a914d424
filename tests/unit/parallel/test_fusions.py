"""A fused kernel is taken from a version on that is known to be good, not where it is present."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from codemix_megatron.conversion.parity import model_recipe
from codemix_megatron.model import config
from codemix_megatron.parallel import device, fusions
from codemix_megatron.recipe.schema import Model

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def engine_of(monkeypatch):
    """Call it with the version of Transformer Engine that is to be there, or None."""

    monkeypatch.setattr(config, "TransformerConfig", SimpleNamespace)  # which refuses what is not really installed

    def pretend(version):
        modules = ("transformer_engine", "transformer_engine_torch") if version else ()
        monkeypatch.setattr(device, "is_there", modules.__contains__)
        monkeypatch.setattr(device, "import_fault", lambda module: None)
        monkeypatch.setattr(fusions, "transformer_engine_version", lambda: version)

    return pretend


@pytest.mark.parametrize(
    ("version", "precision", "kernel"),
    [
        ((2, 11, 0), "bf16", "native"),
        ((2, 17, 1), "bf16", "native"),
        ((2, 18), "bf16", "te"),
        ((3, 0), "bf16", "te"),
        (None, "bf16", "native"),
        (None, "fp32", None),  # megatron-core's fusion gives bf16 gradients whatever the logits are
    ],
)
def test_cross_entropy_is_transformer_engines_only_where_its_gradients_are_known_to_be_right(engine_of, version, precision, kernel):
    engine_of(version)
    recipe = model_recipe(Model(num_layers=1, hidden_size=32, num_attention_heads=2, sequence_length=16))
    recipe = replace(recipe, model=replace(recipe.model, precision=precision))
    found = config.transformer_config(recipe, CUDA)
    assert (found.cross_entropy_fusion_impl if found.cross_entropy_loss_fusion else None) == kernel
    assert not config.transformer_config(recipe, CPU).cross_entropy_loss_fusion
    said = device.active_kernels(CUDA, precision=precision)["cross entropy"]
    assert said == {"te": "Transformer Engine", "native": "megatron-core, fused", None: "megatron-core"}[kernel]


def test_fused_gradients_of_megatron_are_bf16_whatever_the_logits_are():
    """Why fp32 does not take them: the reason in `cross_entropy_kernel`, seen in megatron-core itself."""
    import inspect

    from megatron.core.fusions import fused_cross_entropy

    calculate_gradients = inspect.unwrap(fused_cross_entropy.calculate_gradients)  # not compiled

    softmax, mask, targets = torch.full((1, 1, 4), 0.25), torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.int64)
    assert calculate_gradients(softmax, torch.ones(1, 1), mask, targets).dtype == torch.bfloat16


def test_a_transformer_engine_older_than_the_table_is_refused_with_both_versions(engine_of):
    engine_of((2, 9))
    assert "transformer_engine 2.9 is too old; install 2.11 or newer" in device.transformer_engine_fault()
    assert not device.active_engines()["transformer_engine"]
    engine_of((2, 11))
    assert device.transformer_engine_fault() is None


def test_every_entry_names_its_sources():
    assert all("#" in line and "from 2." in line for line in fusions.fusion_lines())


def test_query_and_key_norms_of_a_layernorm_model_have_no_bias(monkeypatch):
    """Transformer Engine's LayerNorm has one, which would make another model."""
    from codemix_megatron.model import layers

    monkeypatch.setattr(layers, "transformer_engine_attention", lambda: layers.FlashAttention)
    model = Model(num_layers=1, hidden_size=32, num_attention_heads=2, sequence_length=16, qk_norm=True, normalization="layernorm")
    layer, final = layers.transformer_engine_layer(model, layers.LayerNorm)
    attention = layer.submodules.self_attention.submodules
    assert attention.q_layernorm is attention.k_layernorm is final is layers.LayerNorm
