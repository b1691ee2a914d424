"""What is emitted arrives: in real event files, in a real offline wandb run, on the console."""

import copy
import json
import time
from dataclasses import replace

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import RECIPE

from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.yaml_text import apply_overrides
from codemix_megatron.records.events import EndEvent, RollbackEvent, StepEvent, ValidationEvent
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.console import ConsoleLines
from codemix_megatron.train.observers import open_observers

STEP = StepEvent(
    step=1,
    phase="balanced",
    tokens=512,
    sequences=8,
    loss=5.5,
    loss_per_source={"prose": 5.0, "snippets": 6.0},
    tokens_per_source={"prose": 256, "snippets": 256},
    learning_rate=1e-3,
    gradient_norm=2.0,
    seconds=0.5,
    tokens_per_second=1024.0,
    model_flops_per_second=1e9,
)


def emit_one_step(folder, *overrides) -> RunFolder:
    """Open the recipe's observers, emit a step and a validation to them, close them."""
    recipe = build_recipe(apply_overrides(copy.deepcopy(RECIPE), overrides), directory=folder)
    run = RunFolder(folder / "run")
    observers = open_observers(recipe, run, 20)
    for observer in observers:
        observer.emit(STEP)
        observer.emit(ValidationEvent(step=1, phase="balanced", tokens=512, loss_per_source={"prose": 5.0}, bits_per_byte={"prose": 2.5}))
        observer.emit(EndEvent(step=1, at="2026-03-01T10:00:00+00:00", seconds=1.0))
        observer.close()
    return run


def test_tensorboard_files_hold_the_numbers(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("CODEMIX_FOLLOWED", "yes")
    run = emit_one_step(tmp_path, "observers.tensorboard=true")
    events = EventAccumulator(str(run.trackers / "tensorboard")).Reload()
    assert events.Scalars("loss/snippets")[0].value == 6.0
    assert events.Scalars("tokens/prose")[0].value == 256
    assert (events.Scalars("bits_per_byte/prose")[0].step, events.Scalars("bits_per_byte/prose")[0].value) == (1, 2.5)


def start_of(recipe, run: RunFolder, numbers, resumed_at: int = 0, rollback: tuple[int, int] | None = None) -> None:
    """Open the observers of a start, emit steps to them, and end without closing, as a kill does, but for flushing."""
    observers = open_observers(recipe, run, 20, resumed_at)
    for observer in observers:
        for number in numbers:
            observer.emit(replace(STEP, step=number, loss=float(number)))
            if rollback and number == rollback[0]:
                observer.emit(RollbackEvent.from_json({"step": rollback[1]}))
        observer.close()


def test_tensorboard_shows_every_step_once_after_resumes_and_rollbacks(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("CODEMIX_FOLLOWED", "yes")
    recipe = build_recipe(apply_overrides(copy.deepcopy(RECIPE), ["observers.tensorboard=true"]), directory=tmp_path)
    run = RunFolder(tmp_path / "run")
    start_of(recipe, run, range(1, 8))  # killed; the last checkpoint is of step 4
    start_of(recipe, run, [5, 6, 7, 8, 6, 7], resumed_at=4, rollback=(8, 5))
    loss = EventAccumulator(str(run.trackers / "tensorboard")).Reload().Scalars("loss")
    assert [(e.step, e.value) for e in loss] == [(n, float(n)) for n in range(1, 8)]


def test_wandb_keeps_one_run_with_every_step_once_over_resumes(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEMIX_FOLLOWED", "yes")
    recipe = build_recipe(apply_overrides(copy.deepcopy(RECIPE), ["observers.wandb=offline"]), directory=tmp_path)
    run = RunFolder(tmp_path / "run")
    start_of(recipe, run, range(1, 8))
    start_of(recipe, run, range(5, 10), resumed_at=4)
    deadline = time.monotonic() + PATIENCE_SECONDS  # wandb's own process writes after finish() has returned
    while len((found := offline_records(run))[1]) < 9:
        assert time.monotonic() < deadline, f"the offline runs hold {found}"
        time.sleep(0.2)
    ids, steps = found
    assert len(ids) == 1 and steps == list(range(1, 10))


def offline_records(run: RunFolder) -> tuple[set[str], list[int]]:
    """Return ids and logged steps of all offline runs."""
    from wandb.proto import wandb_internal_pb2

    ids, steps = set(), []
    for path in sorted((run.trackers / "wandb").glob("offline-run-*/*.wandb")):
        for data in leveldb_log(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
            if record.HasField("history"):
                steps.append(record.history.step.num)
    return ids, steps


def leveldb_log(content: bytes):
    """Yield the records of wandb's files: LevelDB's log format after 7 bytes, blocks of 32 KiB, parts with a header of 7 bytes."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def test_wandb_writes_offline_and_asks_nothing(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODEMIX_FOLLOWED", "yes")
    monkeypatch.setattr("sys.argv", ["codemix", "train", "--token", "pl4nted"])
    run = emit_one_step(tmp_path, "observers.wandb=online")  # without a key, online becomes offline
    written = list((run.trackers / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(written) == 1
    deadline = time.monotonic() + PATIENCE_SECONDS  # wandb's own process writes after finish() has returned
    while b"loss/snippets" not in written[0].read_bytes():
        assert time.monotonic() < deadline, "the offline run holds no numbers"
        time.sleep(0.2)
    assert not [path for path in run.trackers.rglob("*") if path.is_file() and b"pl4nted" in path.read_bytes()]


def test_console_prints_first_last_and_every_fifth_step(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CODEMIX_FOLLOWED", raising=False)
    emit_one_step(tmp_path)
    printed = capsys.readouterr().out
    assert "step 1/20  balanced  loss 5.5000 (prose 5.000 snippets 6.000)  lr 1.00e-03  1.02K tokens/s" in printed
    assert "held out, bits per byte: prose 2.500" in printed
    lines = ConsoleLines(5, 20)
    shown = [n for n in range(3, 21) if lines.line(replace(STEP, step=n))]
    assert shown == [3, 5, 10, 15, 20]


def test_journal_is_written_with_or_without_other_observers(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEMIX_FOLLOWED", "yes")
    run = emit_one_step(tmp_path)
    events = [json.loads(line) for line in run.journal.read_text().splitlines()]
    assert [e["event"] for e in events] == ["step", "validation", "end"]
    assert events[0]["loss"] == pytest.approx(5.5)
