"""A mixture of experts trained by megatron-core's own layers, beside a plain loop over transformers' OLMoE with the same weights."""

import json

import numpy as np
import pytest
import torch
from many_layouts import VOCABULARY, recipe_of
from safetensors.torch import save_file

from codemix_megatron.conversion.checkpoint_source import hugging_face_config
from codemix_megatron.conversion.dimensions import Dimensions
from codemix_megatron.errors import RecipeError
from codemix_megatron.families.family import indexed_rows
from codemix_megatron.families.registry import FAMILIES
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.plan.cost import count_parameters, training_flops_per_token
from codemix_megatron.recipe.expert_checks import expert_layout_faults
from codemix_megatron.recipe.schema import Model
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train.batches import Batch
from codemix_megatron.train.engine import Engine

pytestmark = pytest.mark.distributed

CHOSEN, BALANCE = 2, 0.05
# One layer: transformers multiplies means over the layers, megatron-core adds up the layers' products.
MODEL = {"num_layers": 1, "num_experts": 4, "experts_per_token": CHOSEN, "expert_balance": BALANCE, "qk_norm": True, "qk_norm_width": "all",
         "tie_embeddings": False}  # fmt: skip


def of_transformers(engine: Engine, model: Model, folder):
    """Return OLMoE of transformers with the weights of a one-rank engine, read from a folder with an expert's name for each tensor."""
    from transformers import AutoModelForCausalLM

    ours = {name.replace("local_experts", "experts"): weight.detach() for name, weight in engine.chunks[0].module.named_parameters()}
    family, dimensions, found = FAMILIES["olmoe"], Dimensions(model, VOCABULARY), {}
    for row, index in indexed_rows(family.rows(model.tie_embeddings), model.num_layers, model.num_experts):
        name = row.megatron[0]
        for mark, number in zip("*#", index, strict=False):
            name = name.replace(mark, str(number))
        found |= {key: part.clone() for key, part in zip(row.names_at(index), dimensions.split(row, ours[name]), strict=True)}
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    config = hugging_face_config(family, model, VOCABULARY) | {"model_type": "olmoe", "pad_token_id": None, "eos_token_id": None}
    (folder / "config.json").write_text(json.dumps(config))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()


def train_plainly(theirs, batches) -> list[float]:
    """Return the losses of AdamW, balance included in what is trained on and not in what is told."""
    from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

    optimizer, losses = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0), []
    for rows in batches:
        ids = torch.from_numpy(rows)
        out = theirs(ids[:, :-1], output_router_logits=True)
        loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), ids[:, 1:].flatten())
        # Its balance counts each of a token's experts as a whole, megatron-core's as a share.
        balance = load_balancing_loss_func(out.router_logits, theirs.config.num_experts, CHOSEN) / CHOSEN
        optimizer.zero_grad()
        (loss + BALANCE * balance).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("normalize", [False, True])
def test_training_follows_transformers_balance_of_experts_included(normalize, tmp_path, measured):
    some = 64 if normalize else 4  # of 64, some get no token at all
    recipe = recipe_of(
        {**MODEL, "normalize_experts": normalize, "num_experts": some},
        {},
        {"global_sequences": 4, "micro_sequences": 4},
        {"weight_decay": 0.0},
    )
    batches = [np.random.default_rng(step).integers(0, 40, (4, 33)) for step in range(10)]
    with one_rank(device="cpu") as ranks:
        metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0)
        engine = Engine(recipe, metadata, 1, ranks)
        theirs = of_transformers(engine, recipe.model, tmp_path)
        sources = torch.zeros(4, dtype=torch.int64)
        ours = [engine.train_step(Batch(torch.from_numpy(rows), sources), 1e-2).losses.mean for rows in batches]
        held = sum(weight.numel() for weight in engine.chunks[0].parameters())
    expected = train_plainly(theirs, batches)
    apart = max(abs(a - b) for a, b in zip(ours, expected, strict=True))
    measured(f"OLMoE, normalize_experts {normalize}: losses of 10 steps at most {apart:.1e} from transformers' (allowed 1e-5)")
    assert apart <= 1e-5 and ours[-1] < ours[0] - 0.5
    assert held == count_parameters(recipe.model, VOCABULARY).total == sum(weight.numel() for weight in theirs.parameters())


def test_a_token_pays_for_the_experts_it_goes_through():
    few, all_of_them = (recipe_of({**MODEL, "experts_per_token": chosen}, {}, {}).model for chosen in (1, 4))
    one = 6 * 3 * few.hidden_size * few.ffn_size
    assert training_flops_per_token(all_of_them, VOCABULARY) - training_flops_per_token(few, VOCABULARY) == 3 * one
    assert count_parameters(few, VOCABULARY) == count_parameters(all_of_them, VOCABULARY)


def test_experts_over_tensor_ranks_need_sequence_parallel():
    asked = recipe_of(MODEL, {"tensor": 2, "context": 2}, {})
    assert expert_layout_faults(asked) == [
        "parallel.sequence_parallel: experts over 2 tensor ranks need it; set it to true",
        "parallel.context: not there with model.num_experts; set it to 1",
    ]
    assert expert_layout_faults(recipe_of(MODEL, {"tensor": 2, "sequence_parallel": True}, {})) == []


def test_transformer_engine_has_no_experts_here(monkeypatch):
    from codemix_megatron.model import config

    monkeypatch.setattr(config, "active_engines", lambda: {"transformer_engine": True})
    with pytest.raises(RecipeError, match="model.num_experts: 4 is computed by torch's layers only"):
        config.require_engines(recipe_of({"num_experts": 4, "experts_per_token": 2}, {}, {}), torch.device("cuda"))


def test_versions_of_megatron_core_whose_experts_nobody_compared_are_refused_by_name(monkeypatch):
    from codemix_megatron.model import config

    monkeypatch.setattr(config, "is_here", lambda versions: False)
    with pytest.raises(RecipeError, match="model.num_experts: experts are computed with megatron-core<0.17, .* is installed"):
        config.require_engines(recipe_of({"num_experts": 4, "experts_per_token": 2}, {}, {}), torch.device("cpu"))
