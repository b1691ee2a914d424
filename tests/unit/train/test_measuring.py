"""What a step took and used is told: its parts, its memory, its share of the peak, a phase's means."""

import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_run import RECIPE

from codemix_megatron.errors import LaunchError
from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.plan.devices import device_called
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.records.events import PhaseEndEvent, StartEvent, StepEvent, ValidationEvent, WarningEvent
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.measuring import Measuring, per_part
from codemix_megatron.train.observers import scalars
from codemix_megatron.train.profiling import Profiling
from codemix_megatron.train.run import RankOfRun
from codemix_megatron.train.step_result import Losses
from codemix_megatron.train.timing import StepClock, step_clock, timed

CPU = Ranks(rank=0, size=4, local_rank=0, device=torch.device("cpu"), data=4, is_loss_stage=True, is_first_stage=True)
STEP = StepEvent(step=1, phase="a", tokens=512, sequences=8, loss=4.0, loss_per_source={"x": 3.0, "y": 5.0}, tokens_per_source={"x": 1},
                 learning_rate=1.0, gradient_norm=1.0, seconds=0.5, tokens_per_second=1024.0, model_flops_per_second=2e9)  # fmt: skip


def test_parts_of_a_step_add_up_to_it():
    parts = per_part({"data": 0.1, "train_step": 0.7, "forward_backward": 0.5, "reduce": 0.05}, 1.0)
    assert parts == pytest.approx({"data": 0.1, "forward_backward": 0.5, "optimizer": 0.15, "reduce": 0.05, "other": 0.2})
    assert sum(parts.values()) == pytest.approx(1.0)


def test_the_clock_sums_calls_and_starts_again():
    @timed("sleep")
    def sleep():
        time.sleep(0.01)
        return 7

    step_clock.take()
    assert [sleep(), sleep()] == [7, 7]
    assert step_clock.take()["sleep"] >= 0.02
    assert step_clock.take() == {} == StepClock().take()


def test_what_happens_between_steps_is_not_counted_as_a_part_of_the_next():
    measuring = Measuring(build_recipe(RECIPE, directory=Path()), CPU)
    step_clock.seconds["forward_backward"] += 5  # held-out scoring runs the same passes
    measuring.enriched(ValidationEvent(step=0, phase="a", tokens=0, loss_per_source={}, bits_per_byte={}))
    assert measuring.enriched(STEP).seconds_per_part["forward_backward"] == 0


def test_mfu_is_of_the_peak_of_all_ranks_and_not_told_where_none_is_known():
    assert Measuring(build_recipe(RECIPE, directory=Path()), CPU).enriched(STEP).mfu is None
    stated = build_recipe({**RECIPE, "observers": {"peak_teraflops": 0.01}}, directory=Path())
    assert Measuring(stated, CPU).enriched(STEP).mfu == pytest.approx(2e9 / (4 * 0.01e12))


def test_gpus_are_known_by_the_names_drivers_give_them():
    names = {
        ("NVIDIA H100 80GB HBM3", 85): "h100", ("NVIDIA H100 PCIe", 85): "h100-pcie", ("NVIDIA H200", 150): "h200",
        ("NVIDIA A100-SXM4-80GB", 85): "a100", ("NVIDIA A100-SXM4-40GB", 42): "a100-40", ("NVIDIA A40", 48): "a40",
        ("NVIDIA L40S", 48): "l40s", ("NVIDIA GeForce RTX 4090", 25): "rtx4090", ("Tesla T4", 16): None,
    }  # fmt: skip
    assert {key: device_called(key[0], int(key[1] * 1e9)) for key in names} == names


def test_the_end_of_a_phase_tells_its_means():
    measuring = Measuring(build_recipe(RECIPE, directory=Path()), CPU)
    for loss in (4.0, 2.0):
        measuring.enriched(replace(STEP, loss=loss, loss_per_source={"x": loss} if loss > 3 else {"x": loss, "y": 1.0}))
    ended = measuring.enriched(PhaseEndEvent(step=2, phase="a"))
    assert (ended.loss, ended.loss_per_source, ended.tokens_per_second) == (3.0, {"x": 3.0, "y": 1.0}, 1024.0)
    assert measuring.enriched(PhaseEndEvent(step=2, phase="b")).loss is None


def test_means_of_a_phase_that_was_interrupted_cover_all_its_steps():
    steps = [replace(STEP, step=n, phase="a" if n < 3 else "b", loss=float(n)) for n in range(1, 6)]
    measuring = Measuring(build_recipe(RECIPE, directory=Path()), CPU)
    measuring.count_again([StartEvent.from_json({}), *steps[:4]], "b")
    measuring.enriched(steps[4])
    ended = measuring.enriched(PhaseEndEvent(step=5, phase="b"))
    assert (ended.loss, ended.steps_measured, ended.seconds) == (4.0, 3, 1.5)


def test_trackers_get_losses_per_source_and_phase_times_and_memory():
    flat = scalars(replace(STEP, mfu=0.25, seconds_per_part={"data": 0.1}, memory_bytes={"host": 9}))
    expected = {
        "loss/y": 5.0,
        "loss_in_phase/a": 4.0,
        "tokens/x": 1,
        "mfu": 0.25,
        "seconds/data": 0.1,
        "memory_bytes/host": 9,
        "seconds": 0.5,
    }
    assert flat.items() >= expected.items()
    assert "mfu" not in scalars(STEP)
    scored = ValidationEvent(step=1, phase="a", tokens=512, loss_per_source={"x": 2.5}, bits_per_byte={"x": 1.5})
    assert scalars(scored) == {"bits_per_byte/x": 1.5, "held_out_loss/x": 2.5}


def test_a_memory_snapshot_on_the_cpu_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEMIX_MEMORY_SNAPSHOT", "2")
    with pytest.raises(LaunchError, match="allocations of CUDA devices only") as caught:
        Profiling(RunFolder(tmp_path), CPU)
    assert caught.value.exit_code == 2


def test_a_run_resumed_behind_the_steps_to_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CODEMIX_PROFILE", "2-3")
    (event,) = Profiling(RunFolder(tmp_path), CPU).after(StartEvent.from_json({"step": 5}))
    assert event == WarningEvent(step=5, text="--profile 2-3: the run goes on at step 6, nothing is recorded")


def test_held_out_windows_in_which_nothing_is_learned_have_no_loss():
    """A mask may hide all of a small corpus's held-out part: its loss read 0, better than any."""
    events, sums, tokens = [], np.array([0.0, 6.0]), np.array([0.0, 3.0])
    rank = SimpleNamespace(
        names=["hidden", "learned"],
        reader=SimpleNamespace(held_out=lambda source, limit, hides: np.zeros((1, 4))),
        recipe=SimpleNamespace(evaluation=SimpleNamespace(held_out_sequences=1)),
        engine=SimpleNamespace(score=lambda rows, source: Losses(sums * source, tokens * source)),
        manifests=dict.fromkeys(["hidden", "learned"], SimpleNamespace(held_out_tokens=2, held_out_bytes=4, loss_mask_sha256="")),
        plan=SimpleNamespace(tokens_at=lambda step: 0),
        state=SimpleNamespace(step=4),
        announce=lambda *_, **__: None,
        emit=events.append,
    )
    RankOfRun.validate(rank, "phase")
    assert events[0].loss_per_source == {"learned": 2.0}
    assert events[0].bits_per_byte == {"learned": pytest.approx(2.0 / math.log(2) * 2 / 4)}
