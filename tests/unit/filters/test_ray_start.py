"""Starting and joining a Ray cluster, with a stand-in for Ray that fails as it does."""

import sys
from types import SimpleNamespace

import pytest

from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.filters.ray_workers import cluster

SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


@pytest.fixture
def ray(monkeypatch):
    """A stand-in whose `init` raises what `faults` holds, one after the other, and then works."""
    stand_in = SimpleNamespace(faults=[], asked=[], shutdowns=0, exceptions=SimpleNamespace(RayError=ArithmeticError))

    def init(**options):
        stand_in.asked.append(options)
        if stand_in.faults:
            raise RuntimeError(stand_in.faults.pop(0))

    def shutdown():
        stand_in.shutdowns += 1

    stand_in.init, stand_in.shutdown = init, shutdown
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return stand_in


@pytest.mark.parametrize("faults, starts", [([], 1), ([SLOW], 2), ([SLOW, SLOW], 3)])
def test_a_local_cluster_that_a_busy_machine_starts_too_slowly_is_started_again(ray, faults, starts):
    ray.faults = list(faults)
    with cluster():
        assert len(ray.asked) == starts and ray.asked[-1]["num_cpus"] >= 1
    assert ray.shutdowns == starts


@pytest.mark.parametrize("faults, starts", [([SLOW] * 3, 3), (["no space left on device"], 1)])
def test_one_that_never_starts_is_an_error_with_its_reason(ray, faults, starts):
    ray.faults = list(faults)
    with pytest.raises(CorpusError, match=faults[-1][:20]) as caught, cluster():
        pass
    assert caught.value.exit_code == MACHINE_FAULT and len(ray.asked) == starts


def test_a_cluster_that_is_joined_gets_no_options_of_a_local_one_and_one_try(ray, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    ray.faults = [SLOW]
    with pytest.raises(CorpusError), cluster():
        pass
    assert ray.asked == [{"log_to_driver": False, "logging_level": "ERROR"}]
