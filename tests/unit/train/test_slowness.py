"""Which rank is slow, and at what, from what all ranks measured."""

import statistics
from dataclasses import astuple, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from codemix_megatron.parallel.probe import Probe, core_seconds
from codemix_megatron.records.events import StepEvent
from codemix_megatron.train.medians import others_median
from codemix_megatron.train.stragglers import WHY_SLOW, StragglerWatch, Window, slowness

FINE = {"probe_seconds": 0.001, "ran_seconds": 40.0, "waited_seconds": 1.0, "data_seconds": 0.1, "step_seconds": 50.0}


def windows(**of_the_last) -> np.ndarray:
    """Return those of three ranks, of which the last differs."""
    return np.array([astuple(Window(**{**FINE, **changed})) for changed in ({}, {}, of_the_last)])


def slowest(table: np.ndarray, rank: int) -> tuple[float, str]:
    """Return a rank's largest factor, and at what."""
    factors = slowness(table)[rank]
    return round(factors.max(), 6), WHY_SLOW[factors.argmax()]


def test_rank_is_compared_with_the_others_and_told_what_it_is_slow_at():
    assert slowest(windows(probe_seconds=0.002), 2) == (2.0, "a fixed workload takes longer on its device")
    factor, why = slowest(windows(ran_seconds=20.0, waited_seconds=30.0), 2)
    assert round(factor, 1) == 2.4 and why == "its process waits for a core"
    factor, why = slowest(windows(data_seconds=25.1), 2)
    assert factor == 2.0 and why == "its data come late"
    for found in (windows(), windows(probe_seconds=0.002)):
        assert slowest(found, 0)[0] == 1.0


@pytest.mark.parametrize("num_ranks", [2, 3, 4, 7, 100])
def test_median_of_the_others_is_that_of_the_statistics_module(num_ranks):
    values = np.random.default_rng(num_ranks).integers(0, 20, num_ranks) / 3  # some of them alike
    wanted = [statistics.median(np.delete(values, rank).tolist()) for rank in range(num_ranks)]
    np.testing.assert_allclose(others_median(values), wanted, rtol=1e-15)


def test_nothing_is_said_where_the_kernel_tells_nothing_of_waiting():
    silent = np.array([astuple(Window(0.001, 0.0, 0.0, 0.0, 50.0))] * 2)
    assert (slowness(silent) == 1.0).all()


def test_waiting_for_a_core_is_told_by_the_kernel_and_work_takes_time():
    before, probe = core_seconds(), Probe(torch.device("cpu"))
    for _ in range(20):
        probe.run()
    assert probe.take() > 0 and probe.take() == 0.0
    assert core_seconds()[0] >= before[0]


def test_ranks_that_are_alike_are_never_named_and_a_slow_one_once_after_three_windows(monkeypatch):
    ranks = SimpleNamespace(size=3, rank=0, is_main=True, device=torch.device("cpu"))
    watch = StragglerWatch(SimpleNamespace(straggler_every_steps=1, straggler_factor=1.3), ranks)
    watch.hosts = ["node1", "node1", "node2"]
    step = StepEvent.from_json({"seconds_per_part": {"data": 0.0}, "seconds": 1.0})

    def named(number: int, **of_the_last) -> list[tuple]:
        monkeypatch.setattr(watch, "share", lambda _: windows(**of_the_last))
        return [(event.step, event.rank, event.host) for event in watch.after(replace(step, step=number))]

    assert not any(named(number) for number in range(1, 9))
    assert not any(named(number, probe_seconds=0.002) for number in (9, 10))
    assert named(11, probe_seconds=0.002) == [(11, 2, "node2")]
    assert not any(named(number, probe_seconds=0.002) for number in range(12, 20))
