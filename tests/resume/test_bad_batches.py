"""A batch that gives no number is skipped and named; one that gives a spike is left out after a rollback."""

import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from whole_checkpoint import poison

from codemix_megatron.mixture.batch_documents import documents_at
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.journal import read_lines

pytestmark = pytest.mark.distributed
BATCH, STEPS = 8, 20
UNTIED = ["model.tie_embeddings=false", "parallel.data=2", "checkpoint.every_steps=4", "checkpoint.keep_last=9"]


def read_batches(tiny):
    """Return plan, reader and the token rows of every step."""
    recipe = read_recipe(tiny.recipe)
    manifests = read_manifests(recipe)
    plan = make_plan(recipe, manifests)
    ordered = [manifests[name] for name in plan.sources]
    reader = SequenceReader(ordered, recipe.model.sequence_length)
    located = [plan.mixture().locate(np.arange(step * BATCH, (step + 1) * BATCH)) for step in range(STEPS)]
    return plan, ordered, [reader.read(at.source, at.sequence) for at in located]


def token_of_one_step(batches, first: int, last: int) -> tuple[int, int]:
    """Return a token that only one step's batch shows the model, and that step, within `first` to `last`."""
    seen = [set(np.unique(rows[:, :-1]).tolist()) for rows in batches]
    for step in range(first, last + 1):
        only = seen[step - 1].difference(*(tokens for i, tokens in enumerate(seen, 1) if i != step))
        if only and step != 12:  # step 12 ends a phase
            return min(only), step
    raise AssertionError("no token occurs in one batch only")


def test_batch_without_a_finite_loss_is_skipped_by_all_ranks_and_its_documents_are_named(tiny):
    assert tiny.train("healthy", *UNTIED).returncode == 0
    plan, manifests, batches = read_batches(tiny)
    token, bad = token_of_one_step(batches, 5, STEPS)
    run = tiny.rewind("healthy", "poisoned", 4)
    assert poison(run / "checkpoints" / "step-4", "word_embeddings", token, math.nan)
    done = tiny.train("poisoned", *UNTIED)
    assert done.returncode == 0, done.stderr
    assert f"step {bad}/20 skipped: loss nan, gradient norm nan" in done.stdout
    events = read_lines(run / "journal.jsonl")
    skipped = [e for e in events if e["event"] == "skipped"]
    steps = [e for e in events if e["event"] == "step"]
    assert [e["step"] for e in skipped] == [bad]
    assert [e["step"] for e in steps] == [step for step in range(1, STEPS + 1) if step != bad]
    assert all(math.isfinite(e["loss"]) for e in steps)  # had one rank updated, all that follow would be nan
    assert tiny.losses("healthy")[: bad - 1] == [e["loss"] for e in steps[: bad - 1]]
    positions = np.arange((bad - 1) * BATCH, bad * BATCH)
    assert skipped[0]["documents"] == documents_at(plan.mixture(), manifests, 64, positions)
    assert any(token in rows for rows in documents_tokens(manifests, plan, skipped[0]))
    assert sum(steps[-1]["tokens_per_source"].values()) == (STEPS - 1) * BATCH * 64
    audited = tiny.codemix_here("audit", run)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def documents_tokens(manifests, plan, event):
    """Yield the tokens of every document that an event of a source that was not finite names."""
    from codemix_megatron.corpus.indexed import IndexedReader

    for name, manifest in zip(plan.sources, manifests, strict=True):
        reader = IndexedReader(manifest.prefix)
        ends = np.cumsum(reader.document_lengths)
        for number in event["documents"].get(name, []) if name in event["sources"] else []:
            start = ends[number] - reader.document_lengths[number]
            yield np.fromfile(manifest.prefix + ".bin", manifest.dtype)[start : ends[number]]


def test_run_that_gives_no_number_stops_after_so_many_batches_in_a_row_and_names_them(tiny):
    burnt = ["optimizer.gradient_clip=0", "phases.0.learning_rate.peak=1e30", "phases.0.learning_rate.warmup_tokens=0"]
    done = tiny.train("burnt", *burnt, "faults.skip_bad_batches=2")
    assert done.returncode == 1
    skipped = tiny.events("burnt", "skipped")
    assert len(skipped) == 3 and [e["step"] for e in skipped] == list(range(skipped[0]["step"], skipped[0]["step"] + 3))
    message = done.stderr
    assert f"step {skipped[-1]['step']}: loss" in message and "3 such batches in a row, faults.skip_bad_batches allows 2" in message
    first = skipped[-1]["documents"]["prose"][0]
    assert (
        f"documents of the batch: prose {first}, " in message
        and "raise faults.skip_bad_batches to continue" in message
        and "Traceback" not in message
    )


SPIKES = ["faults.spike_nats=0.4", "faults.spike_window=4"]


@pytest.fixture(scope="module")
def harmed(tiny):
    """Corpora in which the sequences of step 11 are random tokens, as a damaged file would have them; as changes of the recipe."""
    plan, manifests, _ = read_batches(tiny)
    folder, draw = tiny.folder / "harmed", np.random.default_rng(0)
    folder.mkdir()
    at = plan.mixture().locate(np.arange(10 * BATCH, 11 * BATCH))
    for source, manifest in enumerate(manifests):
        name = list(plan.sources)[source]
        for file in (tiny.folder / "corpora").glob(f"{name}.*"):
            (folder / file.name).write_bytes(file.read_bytes())
        tokens = np.fromfile(folder / f"{name}.bin", manifest.dtype)
        for sequence in at.sequence[at.source == source].tolist():
            tokens[sequence * 64 + 1 : sequence * 64 + 64] = draw.integers(1, 79, 63)
        tokens.tofile(folder / f"{name}.bin")
        # As if it had been prepared so: a file that is not what its manifest says would be refused.
        digest = hashlib.sha256((folder / f"{name}.bin").read_bytes()).hexdigest()
        replace(manifest, prefix=str(folder / name), bin_sha256=digest).write()
    return [f"corpora.{name}.prefix={folder / name}" for name in plan.sources]


def test_loss_spike_goes_back_to_the_last_checkpoint_and_leaves_the_batch_out(tiny, harmed):
    rules = [*SPIKES, "checkpoint.every_steps=4", "checkpoint.keep_last=9"]
    done = tiny.train("spiked", *harmed, *rules)
    assert done.returncode == 0, done.stderr
    assert "step 11: loss" in done.stdout and "back to step 8, batches of steps 11 to 11 are skipped" in done.stdout
    written = [json.loads(line) for line in (tiny.folder / "spiked" / "journal.jsonl").read_text().splitlines()]
    twice = [[e["loss"] for e in written if e["event"] == "step" and e["step"] == step] for step in (9, 10)]
    assert all(len(losses) == 2 and losses[0] == losses[1] for losses in twice)  # the way there was the same again
    events = read_lines(tiny.folder / "spiked" / "journal.jsonl")
    losses = {e["step"]: e["loss"] for e in events if e["event"] == "step"}
    assert sorted(losses) == [step for step in range(1, STEPS + 1) if step != 11]
    assert max(losses[step] for step in range(12, STEPS + 1)) < losses[10]
    assert tiny.codemix_here("audit", tiny.folder / "spiked").returncode == 0
    run = tiny.rewind("spiked", "spiked-again", 8)  # killed just after the rollback: only the journal knows of it
    assert tiny.train("spiked-again", *harmed, *rules).returncode == 0
    again = [e for e in read_lines(run / "journal.jsonl") if e["event"] in ("step", "rollback")]
    assert [e["loss"] for e in again if e["event"] == "step"] == list(losses.values())
    assert sum(e["event"] == "rollback" for e in again) == 1


def test_spike_after_the_last_roll_back_that_is_allowed_stops_the_run(tiny, harmed):
    done = tiny.train("exhausted", *harmed, *SPIKES, "faults.max_rollbacks=0", "checkpoint.every_steps=4")
    assert done.returncode == 1
    assert "step 11: loss" in done.stderr and "faults.max_rollbacks 0 are used up; lower the learning rate" in done.stderr
    assert tiny.events("exhausted")[-1]["step"] == 11 and not tiny.events("exhausted", "rollback") and "Traceback" not in done.stderr


def test_spike_before_the_first_checkpoint_is_warned_of_and_training_goes_on(tiny, harmed):
    done = tiny.train("early", *harmed, *SPIKES)
    assert done.returncode == 0, done.stderr
    assert "warning: step 11: loss" in done.stdout and "there is no checkpoint to go back to" in done.stdout
    assert [e["step"] for e in tiny.events("early")] == list(range(1, STEPS + 1)) and not tiny.events("early", "rollback")
