"""A branch with other batches, or longer sequences, is what a plain PyTorch loop makes of its parent's checkpoint: weights, Adam's moments, data."""

import numpy as np
import pytest
import torch
import yaml
from plain_llama import adamw, plain_llama
from tiny_run import RECIPE
from whole_checkpoint import tensors_of

from codemix_megatron.plan.plan import read_manifests
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.train.dataset import RunDataset

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
STEP, STEPS = 12, 4
# What a branch off a trunk of 12 steps of 8 sequences of 64 tokens has instead: its keys, sequences in a batch, tokens in each.
BRANCHES = {
    "wider": ({"batch": {"global_sequences": 16}}, 16, 64),
    "longer": ({"model": {"sequence_length": 128, "rope_base": 50000.0}, "batch": {"global_sequences": 4}}, 4, 128),
}


@pytest.fixture(scope="module")
def trunk(tiny):
    """A trunk of 12 steps and more."""
    done = tiny.train("trunk-of-8", "checkpoint.keep_last=9")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=list(BRANCHES))
def branch(tiny, trunk, request):
    """The name of a branch of 4 steps off the trunk."""
    keys, batch, length = BRANCHES[request.param]
    phase = {**RECIPE["phases"][1], "tokens": STEPS * batch * length}
    plain = {"name": request.param, **keys, "branch": {"run": "trunk-of-8", "step": STEP}, "phases": [phase]}
    path = tiny.folder / f"{request.param}.yaml"
    path.write_text(yaml.safe_dump({**plain, "checkpoint": {"every_steps": 1, "keep_last": 9}}))
    done = tiny.codemix("train", path, "--folder", request.param)
    assert done.returncode == 0, done.stderr
    return request.param


def parents_values(tiny, branch: str, prefix: str) -> torch.nn.Module:
    """Return transformers' Llama of the branch's model with the trunk's weights, or one moment of Adam's in their place."""
    stored = tensors_of(tiny.folder / "trunk-of-8" / "checkpoints" / f"step-{STEP}")
    values = {}
    for key, tensor in stored.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or name.startswith("optimizer."):
            continue
        if name.startswith("decoder.layers."):
            name = name.replace("self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight")
            name = name.replace("mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight")
            values |= {name.replace("layers.", f"layers.{i}.", 1): part for i, part in enumerate(tensor)}
        else:
            values[name] = tensor
    model = read_recipe(tiny.folder / f"{branch}.yaml").model
    # The softmax goes over the rows that pad the embedding too.
    return plain_llama(model, values, len(values["embedding.word_embeddings.weight"]))


def rows_of(tiny, branch) -> list[torch.Tensor]:
    """Return each step's rows, read with numpy where the data order says: whole sequences of the branch's length, which follow in the file."""
    _, batch, length = BRANCHES[branch]
    dataset = RunDataset(tiny.folder / f"{branch}.yaml")
    manifests = read_manifests(read_recipe(tiny.folder / f"{branch}.yaml"))
    mixture = dataset.plan.mixture()
    files = [np.memmap(f"{manifests[name].prefix}.bin", dtype=manifests[name].dtype) for name in mixture.sources]
    located = mixture.locate(np.arange(mixture.first, len(mixture)))
    rows = [files[s][n * length : n * length + length + 1] for s, n in zip(located.source, located.sequence, strict=True)]
    assert [row.tolist() for row in rows] == [item["row"].tolist() for item in dataset.__getitems__(list(range(len(rows))))]
    return list(torch.from_numpy(np.stack(rows).astype(np.int64)).split(batch))


def replica_losses(tiny, branch) -> list[float]:
    """Train the branch's steps with transformers and torch's AdamW on the sequences that follow those the trunk has read."""
    model, first, second = (
        parents_values(tiny, branch, prefix) for prefix in ("", "optimizer.state.exp_avg.", "optimizer.state.exp_avg_sq.")
    )
    optimizer = adamw(model, 0.1)
    for parameter, mean, square in zip(model.parameters(), first.parameters(), second.parameters(), strict=True):
        optimizer.state[parameter] = {
            "step": torch.tensor(float(STEP)), "exp_avg": mean.detach().clone(), "exp_avg_sq": square.detach().clone(),
        }  # fmt: skip
    losses = []
    for rows, event in zip(rows_of(tiny, branch), tiny.events(branch), strict=True):
        logits = model(rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = event["learning_rate"]
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_losses_are_those_of_a_plain_loop_with_the_parents_moments(tiny, branch, measured):
    ours, theirs = tiny.losses(branch), replica_losses(tiny, branch)
    assert len(ours) == STEPS
    assert ours == pytest.approx(theirs, abs=2e-5)
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    measured(f"a branch off batches of 8 x 64 tokens, {branch}: {STEPS} losses agree with plain PyTorch's to {worst:.1e}")


def test_its_journal_counts_sequences_and_tokens_of_both(tiny, branch):
    events, (_, batch, length) = tiny.events(branch), BRANCHES[branch]
    assert [event["step"] for event in events] == [13, 14, 15, 16]
    assert [event["tokens"] for event in events] == [12 * 8 * 64 + n * batch * length for n in (1, 2, 3, 4)]
    assert all(event["tokens"] == event["sequences"] * length == sum(event["tokens_per_source"].values()) for event in events)
    audited = tiny.codemix_here("audit", branch)
    assert audited.returncode == 0 and "the journal agrees, up to step 16 of 16" in audited.stdout, audited.stdout
    assert tiny.codemix_here("report", branch).returncode == 0


def test_resumed_in_the_middle_it_is_bit_for_bit_the_same(tiny, branch):
    whole, again = tiny.losses(branch), f"{branch}-again"
    tiny.rewind(branch, again, 14)
    done = tiny.codemix("train", tiny.folder / f"{branch}.yaml", "--folder", again)
    assert done.returncode == 0, done.stderr
    assert tiny.losses(again) == whole
