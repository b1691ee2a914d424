"""The paper's parallel block, and the sequential one, on every layout: losses against a single rank, reductions counted."""

import pytest
from many_layouts import train_on

pytestmark = pytest.mark.distributed

PAPER = {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True, "logit_scale": 0.25}
BLOCKS = {"sequential": {}, "parallel": PAPER}
LAYOUTS = {
    "tensor 2": {"tensor": 2},
    "tensor 2, sequence parallel": {"tensor": 2, "sequence_parallel": True},
    "pipeline 2": {"pipeline": 2},
    "pipeline 2 x virtual 2": {"pipeline": 2, "virtual_pipeline": 2},
    "data 2, overlapped": {"overlap": True},
    "data 2, whole optimizer on each": {"distributed_optimizer": False},
    "tensor 2, recomputed attention": {"tensor": 2, "recompute": "selective"},
    "tensor 2, recomputed layers": {"tensor": 2, "sequence_parallel": True, "recompute": "full"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Losses of both blocks on one rank and on all two-rank layouts."""
    folder = tmp_path_factory.mktemp("blocks")
    single = train_on(1, {block: {"model": model} for block, model in BLOCKS.items()}, folder)
    jobs = {f"{block}, {name}": {"model": BLOCKS[block], "parallel": layout} for block in BLOCKS for name, layout in LAYOUTS.items()}
    return single, train_on(2, jobs, folder)


@pytest.mark.parametrize("block", BLOCKS)
def test_losses_and_norms_equal_the_single_rank_on_every_layout(trained, block, measured):
    single, spread = trained
    largest = 0.0
    for name in LAYOUTS:
        found = spread[f"{block}, {name}"]
        assert found["losses"] == pytest.approx(single[block]["losses"], abs=1e-5), name
        assert found["norms"] == pytest.approx(single[block]["norms"], rel=1e-4), name
        largest = max(largest, *(abs(a - b) for a, b in zip(found["losses"], single[block]["losses"], strict=True)))
    measured(f"{block} block on {len(LAYOUTS)} two-rank layouts: losses at most {largest:.1e} from one rank (allowed 1e-5)")


def test_parallel_block_reduces_once_per_layer_and_direction_instead_of_twice(trained, measured):
    """Four layers, four micro batches: 2 x 2 reductions less per layer are gone, one way forward and one backward."""
    _, spread = trained
    twice, once = (spread[f"{block}, tensor 2"]["all_reduces"] for block in BLOCKS)
    layers, micro_batches = 4, 4
    measured(f"all-reduces of a step at TP2: {twice} with the sequential block, {once} with the parallel one")
    assert twice - once == layers * micro_batches * 2
