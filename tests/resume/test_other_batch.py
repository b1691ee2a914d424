"""A branch under another global batch is what a plain PyTorch loop makes of its parent's checkpoint: weights, Adam's moments, data."""

import json
import shutil

import pytest
import torch
import yaml
from tiny_run import RECIPE
from whole_checkpoint import tensors_of

from codemix_megatron.checkpoint.card import read_card, write_card
from codemix_megatron.checkpoint.torch_dist import ShardReader, ShardWriter
from codemix_megatron.train.dataset import RunDataset

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
STEP, BATCH, STEPS = 12, 16, 4


@pytest.fixture(scope="module")
def branch(tiny):
    """A trunk of 12 steps of 8 sequences, and a branch of 4 steps of 16 off it."""
    done = tiny.train("trunk-of-8", "checkpoint.keep_last=9")
    assert done.returncode == 0, done.stderr
    phase = {**RECIPE["phases"][1], "tokens": STEPS * BATCH * 64}
    plain = {"name": "wider", "batch": {"global_sequences": BATCH}, "branch": {"run": "trunk-of-8", "step": STEP}, "phases": [phase]}
    path = tiny.folder / "wider.yaml"
    path.write_text(yaml.safe_dump({**plain, "checkpoint": {"every_steps": 1, "keep_last": 9}}))
    done = tiny.codemix("train", path, "--folder", "wider")
    assert done.returncode == 0, done.stderr
    return path


def exported(tiny, prefix: str) -> dict[str, torch.Tensor]:
    """Return tensors of the trunk's checkpoint in Hugging Face's layout: its weights, or moments dressed as weights."""
    from safetensors.torch import load_file

    source, name = (
        tiny.folder / "trunk-of-8" / "checkpoints" / f"step-{STEP}",
        "dressed-" + (prefix.split(".")[-2] if prefix else "weights"),
    )
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


def replica_losses(tiny, path) -> list[float]:
    """Train the branch's steps with transformers and torch's AdamW on the sequences that follow those the trunk has read."""
    from transformers import LlamaConfig, LlamaForCausalLM

    weights, first, second = (exported(tiny, prefix) for prefix in ("", "optimizer.state.exp_avg.", "optimizer.state.exp_avg_sq."))
    config = json.loads((tiny.folder / "dressed-weights" / "out" / "config.json").read_text())
    model = LlamaForCausalLM(LlamaConfig(**{**config, "vocab_size": len(weights["model.embed_tokens.weight"])}))
    model.load_state_dict(weights, strict=False)
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for p in named.values() if (p.dim() > 1) == is_matrix], "weight_decay": 0.1 * is_matrix}
        for is_matrix in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    for name, parameter in named.items():
        optimizer.state[parameter] = {"step": torch.tensor(float(STEP)), "exp_avg": first[name].clone(), "exp_avg_sq": second[name].clone()}
    dataset, losses = RunDataset(path), []
    for number, event in enumerate(tiny.events("wider")):
        rows = torch.stack([item["row"] for item in dataset.__getitems__(list(range(number * BATCH, (number + 1) * BATCH)))])
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
    ours, theirs = tiny.losses("wider"), replica_losses(tiny, branch)
    assert len(ours) == STEPS
    assert ours == pytest.approx(theirs, abs=2e-5)
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    measured(f"a branch from batches of 8 to 16: {STEPS} losses agree with plain PyTorch's to {worst:.1e}")


def test_its_journal_counts_sequences_and_tokens_of_both_batches(tiny, branch):
    events = tiny.events("wider")
    assert [event["step"] for event in events] == [13, 14, 15, 16]
    assert [event["sequences"] for event in events] == [12 * 8 + n * 16 for n in (1, 2, 3, 4)]
    assert all(event["tokens"] == event["sequences"] * 64 == sum(event["tokens_per_source"].values()) for event in events)
    audited = tiny.codemix_here("audit", "wider")
    assert audited.returncode == 0 and "the journal agrees, up to step 16 of 16" in audited.stdout, audited.stdout
    assert tiny.codemix_here("report", "wider").returncode == 0


def test_resumed_in_the_middle_it_is_bit_for_bit_the_same(tiny, branch):
    whole = tiny.losses("wider")
    tiny.rewind("wider", "wider-again", 14)
    done = tiny.codemix("train", branch, "--folder", "wider-again")
    assert done.returncode == 0, done.stderr
    assert tiny.losses("wider-again") == whole
