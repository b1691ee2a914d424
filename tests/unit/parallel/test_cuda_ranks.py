"""What ranks on CUDA set, and how they leave: as far as it shows without a GPU."""

import sys
import time
from types import SimpleNamespace

import pytest
import torch

from codemix_megatron.model.logits import length_multiple
from codemix_megatron.parallel import ranks
from codemix_megatron.parallel.cuda_environment import cuda_settings, set_cuda_environment
from codemix_megatron.parallel.random_state import restore_random_state, sharded_random_state
from codemix_megatron.recipe.schema import Parallel


def test_one_hardware_queue_where_ranks_share_layers_and_sequences_and_only_there():
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in cuda_settings(Parallel(pipeline=4), None)
    assert cuda_settings(Parallel(tensor=2), None)["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"
    assert cuda_settings(Parallel(context=2), None)["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"


def test_what_the_user_has_set_stays_and_nccl_writes_its_last_collectives_beside_the_logs():
    environment = {"CUDA_DEVICE_MAX_CONNECTIONS": "8", "CODEMIX_RUN": "/runs/a"}
    set_cuda_environment(Parallel(tensor=2), environment)
    assert environment["CUDA_DEVICE_MAX_CONNECTIONS"] == "8"
    assert environment["TORCH_NCCL_DUMP_ON_TIMEOUT"] == environment["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "1"
    assert environment["TORCH_FR_DUMP_TEMP_FILE"] == environment["TORCH_NCCL_DEBUG_INFO_TEMP_FILE"] == "/runs/a/logs/nccl-rank-"


@pytest.fixture
def on_nccl(monkeypatch):
    """A process group that says it is NCCL's and never lets go."""
    calls = []
    monkeypatch.setattr(ranks.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(ranks.dist, "get_backend", lambda: "nccl")
    monkeypatch.setattr(ranks.dist, "destroy_process_group", lambda: calls.append("destroyed"))
    monkeypatch.setattr("megatron.core.parallel_state.destroy_model_parallel", lambda: None)
    monkeypatch.setattr(ranks.dist.distributed_c10d, "_abort_process_group", lambda: (calls.append("aborted"), time.sleep(60)))
    monkeypatch.setattr(ranks, "ABORT_SECONDS", 0.2)
    return calls


def test_a_failing_rank_does_not_wait_for_those_in_a_collective(on_nccl):
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        try:
            _ = 1 / 0
        finally:
            ranks.leave_ranks()
    assert on_nccl == ["aborted"] and time.monotonic() - began < 10


def test_a_rank_that_is_done_leaves_in_order(on_nccl):
    assert sys.exc_info()[0] is None
    ranks.leave_ranks()
    assert on_nccl == ["destroyed"]


def test_random_state_of_another_kind_of_device_is_left_and_the_rest_goes_on():
    with ranks.one_rank(seed=3, device="cpu"):
        state = sharded_random_state().data
        after_save = torch.rand(4)
        cuda = torch.zeros(16, dtype=torch.uint8)  # seed and offset, as a CUDA generator has them
        restore_random_state({**state, "device": cuda, "tracker": dict.fromkeys(state["tracker"], cuda)})
        assert torch.equal(torch.rand(4), after_save)
        from megatron.core.tensor_parallel import get_cuda_rng_tracker

        assert {s.numel() for s in get_cuda_rng_tracker().get_states().values()} == {state["torch"].numel()}


def test_no_sockets_between_all_ranks_are_made_beside_nccl(monkeypatch):
    from megatron.core import parallel_state

    asked = []
    real = parallel_state.initialize_model_parallel
    monkeypatch.setattr(parallel_state, "initialize_model_parallel", lambda **options: (asked.append(options), real(**options)))
    with ranks.one_rank(device="cpu"):
        pass
    assert asked[0]["create_gloo_process_groups"] is False


@pytest.mark.parametrize(
    ("parallel", "on_cuda", "sharing", "overlaps"),
    [
        ({}, True, 8, True),
        ({}, True, 1, False),
        ({}, False, 8, False),
        ({"overlap": False}, True, 8, False),
        ({"overlap": True}, False, 2, True),
        ({"distributed_optimizer": False}, True, 8, False),
    ],
)
def test_gradients_travel_while_others_are_computed_on_cuda_where_there_is_somebody_to_send_them_to(parallel, on_cuda, sharing, overlaps):
    assert Parallel(**parallel).overlaps(on_cuda, sharing) is overlaps


def test_rows_scored_on_cuda_have_few_lengths_that_fp8_and_sequence_parallel_can_take():
    assert length_multiple(torch.device("cuda"), 1) % 16 == 0 and length_multiple(torch.device("cuda"), 4) % (4 * 16) == 0
    assert length_multiple(torch.device("cpu"), 1) == 1


def test_parts_of_a_step_end_when_the_device_has_done_them(monkeypatch):
    from codemix_megatron.train import timing

    waited = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: SimpleNamespace(synchronize=lambda: waited.append(1)))
    timing.wait_for_device()
    assert waited == [1]
