"""Each data-parallel rank writes and reads its own part of the optimizer's state, and the checkpoint is megatron's none the less."""

import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import clean_environment
from whole_checkpoint import tensors_of

from codemix_megatron.checkpoint.optimizer_shards import rectangles

SCRIPT = Path(__file__).resolve().parents[2] / "gathered_state.py"


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.data())
def test_rectangles_make_up_a_range_of_the_flattened_tensor_in_order(shape, data):
    whole = torch.arange(prod(shape))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    found = rectangles(tuple(shape), start, stop)
    blocks = [whole.view(shape)[tuple(slice(o, o + s) for o, s in zip(offset, block, strict=True))] for offset, block in found]
    assert torch.equal(torch.cat([block.flatten() for block in blocks] or [whole[:0]]), whole[start:stop])
    assert len(found) <= 2 * len(shape) - 1


@pytest.mark.distributed
def test_state_held_by_four_ranks_is_saved_and_loaded_as_megatron_gathers_it(tmp_path, measured):
    words = [sys.executable, str(SCRIPT), str(tmp_path)]
    done = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    held, gathered, loaded = (tensors_of(tmp_path / name) for name in ("held", "gathered", "loaded"))
    assert held.keys() == gathered.keys() == loaded.keys()
    assert sum("exp_avg_sq" in name for name in held) > 4
    for name, tensor in gathered.items():
        assert torch.equal(held[name], tensor) and torch.equal(loaded[name], tensor), name
    assert all(tensor.any() for name, tensor in held.items() if "exp_avg" in name)
    sizes = [sum(p.stat().st_size for p in (tmp_path / "held").glob(f"__{rank}_*")) for rank in range(4)]
    measured(f"optimizer's state of tensor 2 x data 2: {len(held)} tensors equal those that megatron gathers; ranks wrote {sizes} bytes")
    assert min(sizes) > 0.15 * sum(sizes)
