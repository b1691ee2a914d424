"""What is told arrives: in real event files, in a real offline wandb run, on the console."""

import copy
import json
import time

import pytest
from tiny_run import RECIPE

from codemix_megatron.recipe.reading import apply_overrides, build_recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.console import ConsoleLines
from codemix_megatron.train.observers import open_observers

STEP = {
    "step": 1,
    "phase": "balanced",
    "tokens": 512,
    "loss": 5.5,
    "loss_per_source": {"prose": 5.0, "snippets": 6.0},
    "tokens_per_source": {"prose": 256, "snippets": 256},
    "learning_rate": 1e-3,
    "gradient_norm": 2.0,
    "seconds": 0.5,
    "tokens_per_second": 1024.0,
    "model_flops_per_second": 1e9,
}


def tell_one_step(folder, *overrides) -> RunFolder:
    """Open the recipe's observers, tell them a step and a validation, close them."""
    recipe = build_recipe(apply_overrides(copy.deepcopy(RECIPE), overrides), directory=folder)
    run = RunFolder(folder / "run")
    observers = open_observers(recipe, run, 20)
    for observer in observers:
        observer.tell("step", STEP)
        observer.tell("validation", {"step": 1, "bits_per_byte": {"prose": 2.5}})
        observer.tell("end", {"step": 1})
        observer.close()
    return run


def test_tensorboard_files_hold_the_numbers(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("CODEMIX_FOLLOWED", "yes")
    run = tell_one_step(tmp_path, "observers.tensorboard=true")
    events = EventAccumulator(str(run.trackers / "tensorboard")).Reload()
    assert events.Scalars("loss/snippets")[0].value == 6.0
    assert events.Scalars("tokens/prose")[0].value == 256
    assert (events.Scalars("bits_per_byte/prose")[0].step, events.Scalars("bits_per_byte/prose")[0].value) == (1, 2.5)


def test_wandb_writes_offline_and_asks_nothing(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODEMIX_FOLLOWED", "yes")
    run = tell_one_step(tmp_path, "observers.wandb=online")  # without a key, online becomes offline
    written = list((run.trackers / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(written) == 1
    deadline = time.monotonic() + 20  # wandb's own process writes after finish() has returned
    while b"loss/snippets" not in written[0].read_bytes():
        assert time.monotonic() < deadline, "the offline run holds no numbers"
        time.sleep(0.2)


def test_console_prints_first_last_and_every_fifth_step(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CODEMIX_FOLLOWED", raising=False)
    tell_one_step(tmp_path)
    printed = capsys.readouterr().out
    assert "step 1/20  balanced  loss 5.5000 (prose 5.000 snippets 6.000)  lr 1.00e-03  1.02K tokens/s" in printed
    assert "held out, bits per byte: prose 2.500" in printed
    lines = ConsoleLines(5, 20)
    shown = [n for n in range(3, 21) if lines.line("step", {**STEP, "step": n})]
    assert shown == [3, 5, 10, 15, 20]


def test_journal_is_written_with_or_without_other_observers(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEMIX_FOLLOWED", "yes")
    run = tell_one_step(tmp_path)
    events = [json.loads(line) for line in run.journal.read_text().splitlines()]
    assert [e["event"] for e in events] == ["step", "validation", "end"]
    assert events[0]["loss"] == pytest.approx(5.5)
