"""A branch with other batches, or longer sequences, is what a plain PyTorch loop makes of its parent's checkpoint: weights, Adam's moments, data."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from tiny_run import RECIPE
from whole_checkpoint import tensors_of

from codemix_megatron.checkpoint.card import read_card, write_card
from codemix_megatron.checkpoint.torch_dist import ShardReader, ShardWriter
from codemix_megatron.plan.plan import read_manifests
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.train.dataset import RunDataset

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
STEP, STEPS = 12, 4
# What a branch off a trunk of 12 steps of 8 sequences of 64 tokens has instead: its keys, sequences in a batch, tokens in each, rotary base.
BRANCHES = {
    "wider": ({"batch": {"global_sequences": 16}}, 16, 64, 10000.0),
    "longer": ({"model": {"sequence_length": 128, "rope_base": 50000.0}, "batch": {"global_sequences": 4}}, 4, 128, 50000.0),
}


@pytest.fixture(scope="module")
def trunk(tiny):
    """A trunk of 12 steps and more."""
    done = tiny.train("trunk-of-8", "checkpoint.keep_last=9")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=list(BRANCHES))
def branch(tiny, trunk, request):
    """The name of a branch of 4 steps off the trunk."""
    keys, batch, length, _ = BRANCHES[request.param]
    phase = {**RECIPE["phases"][1], "tokens": STEPS * batch * length}
    plain = {"name": request.param, **keys, "branch": {"run": "trunk-of-8", "step": STEP}, "phases": [phase]}
    path = tiny.folder / f"{request.param}.yaml"
    path.write_text(yaml.safe_dump({**plain, "checkpoint": {"every_steps": 1, "keep_last": 9}}))
    done = tiny.codemix("train", path, "--folder", request.param)
    assert done.returncode == 0, done.stderr
    return request.param


def exported(tiny, prefix: str) -> dict[str, torch.Tensor]:
    """Return tensors of the trunk's checkpoint in Hugging Face's layout: its weights, or moments dressed as weights."""
    from safetensors.torch import load_file

    source, name = (
        tiny.folder / "trunk-of-8" / "checkpoints" / f"step-{STEP}",
        "dressed-" + (prefix.split(".")[-2] if prefix else "weights"),
    )
    shutil.rmtree(tiny.folder / name, ignore_errors=True)
    target = tiny.folder / name / "checkpoints" / f"step-{STEP}"
    target.mkdir(parents=True)
    for file in ("recipe.yaml", "plan.json", "environment.json"):
        shutil.copy(tiny.folder / "trunk-of-8" / file, tiny.folder / name / file)
    tensors, reader = tensors_of(source), ShardReader(source)
    with ShardWriter(target) as writer:
        for key in (k for k in tensors if not k.startswith("optimizer.")):
            writer.add(key, tuple(tensors[key].shape), (0,) * tensors[key].dim(), tensors[prefix + key])
        for key in reader.objects:
            writer.copy_object(key, reader.read_object(key))
        writer.finish()
    card = read_card(source)
    write_card(target, {**card, "files": {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in target.iterdir()}})
    done = tiny.codemix_here("export", tiny.folder / name, tiny.folder / name / "out", "--no-parity")
    assert done.returncode == 0, done.stderr
    found = load_file(tiny.folder / name / "out" / "model.safetensors")
    # The softmax goes over the rows that pad the embedding too; an export cuts them off.
    return found | {"model.embed_tokens.weight": tensors[prefix + "embedding.word_embeddings.weight"]}


def sha256(path) -> str:
    from codemix_megatron.records.checksum import file_sha256

    return file_sha256(path)


def rows_of(tiny, branch) -> list[torch.Tensor]:
    """Return each step's rows, read with numpy where the data order says: whole sequences of the branch's length, which follow in the file."""
    _, batch, length, _ = BRANCHES[branch]
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
    from transformers import LlamaConfig, LlamaForCausalLM

    weights, first, second = (exported(tiny, prefix) for prefix in ("", "optimizer.state.exp_avg.", "optimizer.state.exp_avg_sq."))
    config = json.loads((tiny.folder / "dressed-weights" / "out" / "config.json").read_text())
    config |= {"rope_theta": BRANCHES[branch][3], "max_position_embeddings": BRANCHES[branch][2], "rope_parameters": None}
    model = LlamaForCausalLM(LlamaConfig(**{**config, "vocab_size": len(weights["model.embed_tokens.weight"])}))
    assert model.config.rope_theta == BRANCHES[branch][3]
    model.load_state_dict(weights, strict=False)
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for p in named.values() if (p.dim() > 1) == is_matrix], "weight_decay": 0.1 * is_matrix}
        for is_matrix in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    for name, parameter in named.items():
        optimizer.state[parameter] = {"step": torch.tensor(float(STEP)), "exp_avg": first[name].clone(), "exp_avg_sq": second[name].clone()}
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
    events, (_, batch, length, _) = tiny.events(branch), BRANCHES[branch]
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
