"""Families trained by megatron-core's layers beside transformers with the same weights: the first step's gradients, tensor by tensor, and ten losses."""

import json

import numpy as np
import pytest
import torch
from many_layouts import LENGTH, VOCABULARY, recipe_of
from safetensors.torch import save_file

from codemix_megatron.conversion.checkpoint_source import hugging_face_config
from codemix_megatron.conversion.dimensions import Dimensions
from codemix_megatron.families.family import indexed_rows
from codemix_megatron.families.registry import FAMILIES
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.plan.cost import count_parameters
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train.batches import Batch
from codemix_megatron.train.engine import Engine

pytestmark = pytest.mark.distributed

GEMMA = {
    "norm_position": "both", "zero_centered_norm": True, "activation": "geglu", "sliding_window": 8, "full_attention_interval": 2,
    "head_dim": 32, "embedding_multiplier": 8.0, "attention_scale": 20**-0.5, "normalization_epsilon": 1e-6, "init_std": 0.1,
}  # fmt: skip
MODELS = {
    "gemma2": {**GEMMA, "attention_softcap": 2.0, "logit_softcap": 3.0},
    # A window as long as the sequences sees all, and still rotates by its own base.
    "gemma3_text": {**GEMMA, "sliding_window": LENGTH, "qk_norm": True, "rope_base": 1e6, "window_rope_base": 1e4,
                    "rope_scaling": {"kind": "linear", "factor": 8.0}},
    "phi3": {"tie_embeddings": False, "rotary_share": 0.75, "init_std": 0.1, "rope_scaling": {
        "kind": "longrope", "factor": 4.0, "original_sequence_length": 16, "short_factors": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
        "long_factors": [1.0, 1.5, 2.0, 4.0, 8.0, 16.0]}},
}  # fmt: skip


def of_engine(engine: Engine, family: str, model, value) -> dict[str, torch.Tensor]:
    """Return what `value` says of each parameter of a one-rank engine, under transformers' names and in their shapes."""
    ours = {name: value(weight) for name, weight in engine.chunks[0].module.named_parameters()}
    dimensions, found = Dimensions(model, VOCABULARY), {}
    for row, index in indexed_rows(FAMILIES[family].rows(model.tie_embeddings), model.num_layers):
        name = row.megatron[0].replace("*", str(index[0]) if index else "")
        found |= {key: part.clone() for key, part in zip(row.names_at(index), dimensions.split(row, ours[name]), strict=True)}
    return found


def of_transformers(engine: Engine, family: str, model, folder):
    """Return the model of transformers with an engine's weights."""
    from transformers import AutoModelForCausalLM

    save_file(of_engine(engine, family, model, lambda weight: weight.detach()), folder / "model.safetensors", {"format": "pt"})
    ids = {"pad_token_id": None, "eos_token_id": None, "bos_token_id": None}
    config = hugging_face_config(FAMILIES[family], model, VOCABULARY) | {"model_type": family, **ids}
    (folder / "config.json").write_text(json.dumps(config))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()


@pytest.mark.parametrize("family", MODELS)
def test_gradients_and_losses_are_those_of_transformers(family, tmp_path, measured):
    recipe = recipe_of(MODELS[family], {}, {"global_sequences": 4, "micro_sequences": 4}, {"weight_decay": 0.0, "gradient_clip": 0.0})
    batches = [np.random.default_rng(step).integers(0, 40, (4, LENGTH + 1)) for step in range(10)]
    losses, gradients, sources = [], {}, torch.zeros(4, dtype=torch.int64)
    with one_rank(device="cpu") as ranks:
        engine = Engine(recipe, TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0), 1, ranks)
        with torch.no_grad():  # norms that are not all alike
            for weight in engine.chunks[0].parameters():
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 0.05)
        theirs = of_transformers(engine, family, recipe.model, tmp_path)
        assert sum(map(torch.numel, theirs.parameters())) == count_parameters(recipe.model, VOCABULARY).total
        engine.optimizer.reload_model_params()
        for rows in batches:
            losses.append(engine.train_step(Batch(torch.from_numpy(rows), sources), 1e-3).losses.mean)
            gradients = gradients or of_engine(engine, family, recipe.model, lambda weight: weight.main_grad)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    expected, apart = [], 0.0
    for rows in batches:
        ids = torch.from_numpy(rows)
        loss = torch.nn.functional.cross_entropy(theirs(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        if not expected:
            named = {name: weight.grad for name, weight in theirs.named_parameters()}
            assert named.keys() == gradients.keys()
            apart = max(float((gradients[name] - named[name]).norm() / named[name].norm()) for name in named)
        optimizer.step()
        expected.append(float(loss.detach()))
    losses_apart = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    measured(
        f"{family}: {len(gradients)} gradients at most {apart:.1e} of their size from transformers' (allowed 1e-4), losses of 10 steps"
        f" {losses_apart:.1e} (allowed 1e-5)"
    )
    assert apart <= 1e-4 and losses_apart <= 1e-5 and losses[-1] < losses[0]
