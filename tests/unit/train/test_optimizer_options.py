"""z-loss, embeddings without decay, moving averages and muP, each against plain PyTorch or numpy; one rank, tiny models."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from many_layouts import VOCABULARY, batches, recipe_of
from plain_llama import adamw, plain_llama

from codemix_megatron.megatron.optimizer_shards import AVERAGE
from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
from codemix_megatron.recipe.schema import Optimizer
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train.batches import Batch
from codemix_megatron.train.engine import Engine

pytestmark = pytest.mark.distributed
RATE, STEPS = 1e-2, 6


@pytest.fixture
def start(monkeypatch):
    """Call it with the optimizer's keys and the model's for an engine on one rank."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)

    def begin(optimizer: dict, model: dict | None = None) -> Engine:
        leave_ranks()
        recipe = replace(recipe_of(model or {}, {}, {}), optimizer=Optimizer(**optimizer))
        metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0)
        return Engine(recipe, metadata, 1, join_ranks(recipe.parallel, recipe.seed))

    yield begin
    leave_ranks()


def weights_of(engine: Engine) -> dict[str, torch.Tensor]:
    """Return this rank's weights by Megatron's names."""
    return dict(engine.chunks[0].module.named_parameters())


def train(engine: Engine, steps: int = STEPS, rate: float = RATE) -> list[float]:
    """Return the losses of some steps."""
    rows = torch.from_numpy(batches(steps))
    return [engine.train_step(Batch(batch, torch.zeros(len(batch), dtype=torch.int64)), rate).losses.mean for batch in rows]


def plain_losses(engine: Engine, decay: float, undecayed=lambda name: False, z_loss: float = 0.0) -> list[float]:
    """Return the cross entropy of each step of a plain loop that begins with the engine's weights."""
    model = plain_llama(engine.recipe.model, weights_of(engine), VOCABULARY)
    optimizer, found = adamw(model, decay, undecayed), []
    for group in optimizer.param_groups:
        group["lr"] = RATE
    for rows in torch.from_numpy(batches(STEPS)):
        logits = model(rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        found.append(loss.item())
        optimizer.zero_grad()
        (loss + z_loss * logits.logsumexp(dim=-1).square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return found


@pytest.mark.parametrize(
    ("optimizer", "plain"),
    [
        ({"z_loss": 0.05}, {"decay": 0.1, "z_loss": 0.05}),
        ({"decay_embeddings": False, "weight_decay": 3.0}, {"decay": 3.0, "undecayed": lambda name: "embed_tokens" in name}),
        ({"weight_decay": 3.0}, {"decay": 3.0}),
    ],
    ids=["z-loss", "embeddings not decayed", "embeddings decayed"],
)
def test_losses_are_those_of_plain_pytorch(start, optimizer, plain, measured, request):
    engine = start(optimizer)
    expected = plain_losses(engine, **plain)
    worst = max(abs(a - b) for a, b in zip(train(engine), expected, strict=True))
    measured(f"{request.node.callspec.id}: {STEPS} losses agree with plain PyTorch's to {worst:.1e}")
    assert worst <= 2e-5


def test_z_loss_changes_training_and_not_what_is_scored(start):
    losses = {z: train(start({"z_loss": z})) for z in (0.0, 0.05)}
    assert losses[0.0][0] == losses[0.05][0] and losses[0.0][-1] != losses[0.05][-1]
    rows = batches(1)[0]
    assert start({"z_loss": 0.05}).score(rows, 0).mean == start({}).score(rows, 0).mean


def test_moving_average_is_numpys(start):
    engine, decay = start({"average_decay": 0.9}), np.float32(0.9)
    (optimizer,) = engine.optimizers
    weights = [weight for group in optimizer.optimizer.param_groups for weight in group["params"]]
    expected = [weight.detach().numpy().copy() for weight in weights]
    for rows in torch.from_numpy(batches(3)):
        engine.train_step(Batch(rows, torch.zeros(len(rows), dtype=torch.int64)), RATE)
        expected = [old * decay + weight.detach().numpy() * np.float32(1 - 0.9) for old, weight in zip(expected, weights, strict=True)]
    for old, weight in zip(expected, weights, strict=True):
        assert np.array_equal(optimizer.optimizer.state[weight][AVERAGE].numpy(), old)
    assert train(start({"average_decay": 0.9})) == train(start({}))


def test_the_base_model_itself_is_trained_as_without_transfer(start):
    assert train(start({"transfer": "mup", "base_width": 64})) == train(start({}))


@pytest.mark.parametrize("tied", [True, False])
def test_widths_scale_weights_rates_and_decay_as_in_table_8(start, tied):
    base, wide = (
        weights_of(start({}, {"tie_embeddings": tied, "hidden_size": width, "ffn_hidden_size": 2 * width})) for width in (64, 256)
    )
    engine = start({"transfer": "mup", "base_width": 64}, {"tie_embeddings": tied, "hidden_size": 256, "ffn_hidden_size": 512})
    scaled = weights_of(engine)
    for name, weight in scaled.items():
        is_table, expected = name.endswith(("word_embeddings.weight", "output_layer.weight")), base[name].float().std().item()
        if weight.dim() > 1:
            assert weight.std().item() == pytest.approx(expected if is_table else expected / 2, rel=0.05), name
            assert torch.equal(weight, wide[name] if is_table else wide[name] / 2), name
        else:
            assert weight.unique().item() == (0.25 if "final_layernorm" in name else 1.0), name
    engine.set_rates(1.0)
    rates = {
        (group["lr"], round(group["weight_decay"], 6)): sum(p.numel() for p in group["params"]) for group in engine.optimizer.param_groups
    }
    tables = sum(weight.numel() for name, weight in scaled.items() if name.endswith(("word_embeddings.weight", "output_layer.weight")))
    assert rates[1.0, 0.1] == tables and set(rates) == {(1.0, 0.1), (1.0, 0.0), (0.25, 0.4), (0.25, 0.0)}
    assert rates[0.25, 0.0] == 256


@pytest.mark.parametrize("widths", [(64, 128, 256), pytest.param((64, 128, 256, 512, 1024), marks=pytest.mark.slow)])
def test_coordinates_are_flat_over_widths_where_standard_ones_are_not(widths, monkeypatch, measured):
    """What microsoft/mup's README asks of its coordinate check: flat at every step, but for logits at the start, which begin as 1 / sqrt(width)."""
    from tiny_run import REPOSITORY

    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    from transfer import coordinates, exponents, faults_of

    mup, standard = (exponents({width: coordinates(width, transfer) for width in widths}) for transfer in ("mup", "none"))
    for step in (0, len(mup) - 1):
        measured(f"widths {widths[0]} to {widths[-1]} after {step} steps, exponents of size and change: mup {rounded(mup[step])}")
    measured(f"the same after {len(mup) - 1} steps, standard: {rounded(standard[-1])}")
    assert not faults_of(mup, standard)
    assert faults_of(standard, standard)


def rounded(values: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return values to two places."""
    return {name: (round(size, 2), round(change, 2)) for name, (size, change) in values.items()}


def test_gradient_norms_by_kind_of_weight_are_plain_pytorchs(start):
    engine = start({})
    model = plain_llama(engine.recipe.model, weights_of(engine), VOCABULARY)
    rows = torch.from_numpy(batches(1)[0])
    logits = model(rows[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
    parts = {
        "embedding": ("embed_tokens",), "query_key_value": ("q_proj", "k_proj", "v_proj"), "attention_output": ("o_proj",),
        "mlp_in": ("gate_proj", "up_proj"), "mlp_out": ("down_proj",), "norms_and_biases": ("norm",),
    }  # fmt: skip
    expected = {
        kind: math.sqrt(sum(float(w.grad.square().sum()) for name, w in model.named_parameters() if any(part in name for part in named)))
        for kind, named in parts.items()
    }
    engine.reports_norms = True
    result = engine.train_step(Batch(rows, torch.zeros(len(rows), dtype=torch.int64)), RATE)
    assert result.gradient_norms == pytest.approx(expected, rel=1e-4)
    assert math.hypot(*result.gradient_norms.values()) == pytest.approx(result.gradient_norm, rel=1e-5)
    engine.reports_norms = False
    assert engine.train_step(Batch(rows, torch.zeros(len(rows), dtype=torch.int64)), RATE).gradient_norms is None
