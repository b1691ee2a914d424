"""Batches, sequence lengths and shares that change in mid-phase: losses of a plain PyTorch loop, and a resume at every step of it."""

import math

import numpy as np
import pytest
import torch
import yaml
from plain_llama import adamw, plain_llama
from tiny_run import RECIPE

from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.reading import read_recipe

pytestmark = pytest.mark.distributed
LENGTH = 64
SIZES = [8, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16]  # of the steps; the first five have sequences of 32
WARM, PEAK, FINAL = 1024, 3e-3, 1e-3


@pytest.fixture(scope="module")
def recipe(tiny):
    """Two phases: shares move in both, the batch doubles in the first, which has sequences of half the length."""
    shares = {"from": {"prose": 0.9, "snippets": 0.1}, "to": {"prose": 0.2, "snippets": 0.8}}
    rate = {"schedule": "cosine", "peak": PEAK, "final": FINAL, "warmup_tokens": WARM}
    phases = [
        {"name": "short", "tokens": 3072, "sequence_length": 32, "mixture": {**shares, "stages": 3}, "learning_rate": rate},
        {"name": "long", "tokens": 6 * 1024, "mixture": shares, "learning_rate": {"schedule": "constant", "peak": FINAL}},
    ]
    batch = {"global_sequences": [[0, 8], ["2K", 16]], "micro_sequences": 2}
    path = tiny.folder / "changing.yaml"
    saving = {"every_steps": 1, "keep_last": 99}
    path.write_text(yaml.safe_dump({**RECIPE, "name": "changing", "batch": batch, "phases": phases, "checkpoint": saving}))
    done = tiny.codemix("train", path, "--folder", "changing")
    assert done.returncode == 0, done.stderr
    return path


def rate_after(tokens: int) -> float:
    """Return the first phase's rate by the tokens seen after a step."""
    if tokens <= WARM:
        return PEAK * tokens / WARM
    return FINAL + (PEAK - FINAL) * 0.5 * (1 + math.cos(math.pi * (tokens - WARM) / (3072 - WARM)))


def rows_of(path) -> list[torch.Tensor]:
    """Return each step's rows, read with numpy where the data order says; the first five steps' cut in two."""
    read = read_recipe(path)
    manifests = read_manifests(read)
    mixture = make_plan(read, manifests).mixture()
    files = [np.memmap(f"{manifests[name].prefix}.bin", dtype=manifests[name].dtype) for name in mixture.sources]
    batches, first = [], 0
    for step, size in enumerate(SIZES):
        located, first = mixture.locate(np.arange(first, first + size)), first + size
        rows = [files[s][n * LENGTH : n * LENGTH + LENGTH + 1] for s, n in zip(located.source, located.sequence, strict=True)]
        if step < 5:
            rows = [part for row in rows for part in (row[:33], row[32:])]
        batches.append(torch.from_numpy(np.stack(rows).astype(np.int64)))
    return batches


def plain_model(path):
    """Return transformers' Llama with the weights a run of this recipe begins with."""
    from codemix_megatron.model.build import build_model
    from codemix_megatron.parallel.ranks import one_rank

    read = read_recipe(path)
    vocabulary = next(iter(read_manifests(read).values())).tokenizer.vocab_size
    with one_rank(device="cpu") as ranks, torch.no_grad():
        weights = dict(build_model(read, vocabulary, ranks.device)[0].named_parameters())
        return plain_llama(read.model, weights, read.model.padded_vocab_size(vocabulary))


def test_losses_are_those_of_a_plain_loop(tiny, recipe, measured):
    model = plain_model(recipe)
    optimizer, expected, seen = adamw(model, 0.1), [], 0
    for step, rows in enumerate(rows_of(recipe)):
        logits = model(rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        seen += SIZES[step] * LENGTH
        for group in optimizer.param_groups:
            group["lr"] = rate_after(seen) if step < 5 else FINAL
        optimizer.step()
        expected.append(float(loss.detach()))
    losses = tiny.losses("changing")
    worst = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    measured(f"batch 8 to 16 and length 32 to 64, shares moving: {len(losses)} losses agree with plain PyTorch's to {worst:.1e}")
    assert worst <= 1e-5


def test_journal_and_audit_count_what_was_read(tiny, recipe):
    events = tiny.events("changing")
    assert [event["sequences"] for event in events] == np.cumsum(SIZES).tolist()
    assert all(event["tokens"] == event["sequences"] * LENGTH == sum(event["tokens_per_source"].values()) for event in events)
    audited = tiny.codemix_here("audit", "changing")
    assert audited.returncode == 0 and "the journal agrees, up to step 11 of 11" in audited.stdout, audited.stdout
    assert tiny.codemix_here("report", "changing").returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("steps", [range(1, 6), range(6, len(SIZES))], ids=["first half", "second half"])
def test_resumed_at_every_step_it_is_bit_for_bit_the_same(tiny, recipe, steps, measured):
    whole = tiny.losses("changing")
    for step in steps:
        tiny.rewind("changing", f"changing-{step}", step)
        done = tiny.codemix("train", recipe, "--folder", f"changing-{step}")
        assert done.returncode == 0, done.stderr
        assert tiny.losses(f"changing-{step}") == whole, f"resumed at step {step}"
    measured(f"resumed after each of the steps {steps[0]} to {steps[-1]}: all {len(whole)} losses equal bit for bit")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "layout", [["parallel.tensor=2", "parallel.pipeline=2"], ["parallel.tensor=2", "parallel.sequence_parallel=true"], ["parallel.data=2"]]
)
def test_on_other_layouts_losses_agree_to_rounding(tiny, recipe, layout):
    name = "changing-" + "-".join(word.partition(".")[2].replace("=", "") for word in layout)
    done = tiny.codemix("train", recipe, "--folder", name, *layout)
    assert done.returncode == 0, done.stderr
    assert tiny.losses(name) == pytest.approx(tiny.losses("changing"), abs=2e-5)
