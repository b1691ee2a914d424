"""What stands in for CUDA on CPU."""

import pytest
import torch

from codemix_megatron.megatron.installing import install_changes


@pytest.fixture(scope="module", autouse=True)
def installed():
    """Changes are made once per process, as in training."""
    if torch.cuda.is_available():
        pytest.skip("this is for machines without CUDA")
    install_changes("cpu", {})


def test_dropout_streams_are_forked_on_the_cpu_generator():
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    tracker = CudaRNGStatesTracker()
    tracker.add("model-parallel-rng", 5)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with tracker.fork():
        first = torch.rand(3)
    with tracker.fork():
        second = torch.rand(3)
    assert torch.equal(torch.rand(3), expected), "drawing inside a fork moved the outer stream"
    assert not torch.equal(first, second), "the tracked stream did not advance"
    with pytest.raises(KeyError, match="was never added"), tracker.fork("unknown"):
        pass


def test_a_process_that_computed_on_cpu_refuses_cuda():
    from codemix_megatron.errors import LaunchError

    with pytest.raises(LaunchError, match="this process has computed on CPU"):
        install_changes("cuda", {"transformer_engine": True})
