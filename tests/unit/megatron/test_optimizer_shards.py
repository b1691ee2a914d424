"""Each data-parallel rank writes and reads its own part of the optimizer's state, and the checkpoint is megatron's none the less."""

import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment
from whole_checkpoint import tensors_of

from codemix_megatron.megatron.optimizer_shards import rectangles

MASTER = "optimizer.state.param."
SCRIPT = Path(__file__).resolve().parents[2] / "gathered_state.py"


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.data())
def test_rectangles_make_up_a_range_of_the_flattened_tensor_in_order(shape, data):
    whole = torch.arange(prod(shape))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    found = rectangles(tuple(shape), start, stop)
    blocks = [whole.view(shape)[tuple(slice(o, o + s) for o, s in zip(offset, block, strict=True))] for offset, block in found]
    assert torch.equal(torch.cat([block.flatten() for block in blocks] or [whole[:0]]), whole[start:stop])
    assert len(found) <= 2 * len(shape) - 1


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of four checkpoints that four ranks have saved."""
    folder = tmp_path_factory.mktemp("saved")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.distributed
def test_state_held_by_four_ranks_is_saved_and_loaded_as_megatron_gathers_it(saved, measured):
    held, gathered, loaded = (tensors_of(saved / name) for name in ("held", "gathered", "loaded"))
    assert held.keys() == gathered.keys() == loaded.keys()
    assert sum("exp_avg_sq" in name for name in held) > 4
    for name, tensor in gathered.items():
        assert torch.equal(held[name], tensor) and torch.equal(loaded[name], tensor), name
    assert all(tensor.any() for name, tensor in held.items() if "exp_avg" in name)
    sizes = [sum(p.stat().st_size for p in (saved / "held").glob(f"__{rank}_*")) for rank in range(4)]
    measured(f"optimizer's state of tensor 2 x data 2: {len(held)} tensors equal those that megatron gathers; ranks wrote {sizes} bytes")
    assert min(sizes) > 0.15 * sum(sizes)


@pytest.mark.distributed
@pytest.mark.parametrize("name", ["untrained", "held"])
def test_saved_weights_are_those_of_the_last_update_also_when_they_are_gathered_later(saved, name):
    tensors = tensors_of(saved / name)
    masters = {key.removeprefix(MASTER): tensor for key, tensor in tensors.items() if key.startswith(MASTER)}
    assert masters
    for key, tensor in masters.items():
        assert torch.equal(tensors[key], tensor), key


@pytest.mark.distributed
def test_a_save_before_the_first_update_has_moments_of_zero(saved):
    moments = [tensor for name, tensor in tensors_of(saved / "untrained").items() if "exp_avg" in name]
    assert moments and not any(tensor.any() for tensor in moments)
