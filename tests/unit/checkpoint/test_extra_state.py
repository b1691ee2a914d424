"""A checkpoint of local layers loads where Transformer Engine's are asked for: what it lacks of FP8's is left empty."""

import pytest
import torch

from codemix_megatron.checkpoint.host_copies import HostCopies
from codemix_megatron.checkpoint.loading import load_checkpoint
from codemix_megatron.checkpoint.writing import save_checkpoint
from codemix_megatron.errors import CheckpointError
from codemix_megatron.parallel.ranks import one_rank


@pytest.fixture(scope="module")
def ranks():
    """A process group of one."""
    with one_rank(device="cpu") as group:
        yield group


def state(*extra: str) -> dict:
    """One tensor, and extra states of these names, as the layers of Transformer Engine ask for them."""
    from megatron.core.dist_checkpointing import ShardedTensor
    from megatron.core.dist_checkpointing.mapping import ShardedObject

    objects = {f"{name}._extra_state": ShardedObject(f"{name}._extra_state", name, (1,), (0,)) for name in extra}
    return {"model0": {"w": ShardedTensor.from_rank_offsets("w", torch.arange(6.0)), **objects}}


def test_extra_states_that_are_absent_are_left_empty_and_those_that_are_there_are_read(ranks, tmp_path):
    save_checkpoint(tmp_path / "step-1", state("linear"), {"step": 1}, ranks.device)
    loaded = load_checkpoint(tmp_path / "step-1", state("linear", "final_layernorm", "q_layernorm"))["model0"]
    assert loaded["linear._extra_state"] == "linear"
    assert loaded["final_layernorm._extra_state"] is None and loaded["q_layernorm._extra_state"] is None
    assert torch.equal(loaded["w"], torch.arange(6.0))


def test_a_checkpoint_with_more_of_them_than_are_asked_for_loads_too(ranks, tmp_path):
    save_checkpoint(tmp_path / "step-1", state("linear", "final_layernorm"), {"step": 1}, ranks.device)
    assert load_checkpoint(tmp_path / "step-1", state("linear"))["model0"]["linear._extra_state"] == "linear"


def test_an_absent_tensor_is_still_refused(ranks, tmp_path):
    from megatron.core.dist_checkpointing import ShardedTensor

    save_checkpoint(tmp_path / "step-1", state(), {"step": 1}, ranks.device)
    wanted = state("final_layernorm")
    wanted["model0"]["bias"] = ShardedTensor.from_rank_offsets("bias", torch.zeros(2))
    with pytest.raises(CheckpointError, match="bias"):
        load_checkpoint(tmp_path / "step-1", wanted)


def test_host_memory_of_a_save_is_used_again_by_the_next(monkeypatch):
    from codemix_megatron.checkpoint import host_copies

    made = []
    monkeypatch.setattr(host_copies, "pinned_like", lambda there: made.append(there.shape) or torch.empty(there.shape, dtype=there.dtype))
    copies = HostCopies()
    first = [copies.copy_at(n, torch.full((2, n + 1), float(n))) for n in range(3)]
    again = [copies.copy_at(n, torch.full((2, n + 1), 7.0)) for n in range(3)]
    assert len(made) == 3 and all(a is b and (a == 7).all() for a, b in zip(first, again, strict=True))
    other = copies.copy_at(1, torch.zeros(5, dtype=torch.bfloat16))
    assert len(made) == 4 and other.shape == (5,) and other.dtype == torch.bfloat16
