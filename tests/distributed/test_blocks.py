"""The paper's parallel block, and the sequential one, on every layout: losses against a single rank, reductions counted."""

import pytest
from many_layouts import train_on

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]  # one start of ranks trains all layouts

PAPER = {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True, "logit_scale": 0.25}
STRETCHED = {"kind": "llama3", "factor": 4, "low_frequency_factor": 1, "high_frequency_factor": 4, "original_sequence_length": 16}
# What Llama's relatives add, all at once: biases and norms are the parameters whose gradients tensor ranks have to sum.
RELATIVES = {"qkv_bias": True, "qk_norm": True, "head_dim": 32, "sliding_window": 8, "rope_scaling": STRETCHED, "tie_embeddings": False}
BLOCKS = {"sequential": {}, "parallel": PAPER, "relatives'": RELATIVES}
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
# Norms of 4.6 after a step of 0.01: the third step of the relatives is steep enough to blow up rounding a thousandfold.
NORM_TOLERANCE = {"sequential": 1e-4, "parallel": 1e-4, "relatives'": 1e-3}
LAYOUTS_OF_RELATIVES = ("tensor 2", "tensor 2, sequence parallel", "pipeline 2 x virtual 2")


def layouts_of(block: str) -> list[str]:
    """Return the layouts a block is trained on."""
    return list(LAYOUTS_OF_RELATIVES if block == "relatives'" else LAYOUTS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Losses of the blocks on one rank and on their two-rank layouts."""
    folder = tmp_path_factory.mktemp("blocks")
    single = train_on(1, {block: {"model": model} for block, model in BLOCKS.items()}, folder)
    jobs = {f"{block}, {name}": {"model": BLOCKS[block], "parallel": LAYOUTS[name]} for block in BLOCKS for name in layouts_of(block)}
    return single, train_on(2, jobs, folder)


@pytest.mark.parametrize("block", BLOCKS)
def test_losses_and_norms_equal_the_single_rank_on_every_layout(trained, block, measured):
    single, spread = trained
    largest = 0.0
    for name in layouts_of(block):
        found = spread[f"{block}, {name}"]
        assert found["losses"] == pytest.approx(single[block]["losses"], abs=1e-5), name
        assert found["norms"] == pytest.approx(single[block]["norms"], rel=NORM_TOLERANCE[block]), name
        largest = max(largest, *(abs(a - b) for a, b in zip(found["losses"], single[block]["losses"], strict=True)))
    measured(f"{block} block on {len(layouts_of(block))} two-rank layouts: losses at most {largest:.1e} from one rank (allowed 1e-5)")


def test_parallel_block_reduces_once_per_layer_and_direction_instead_of_twice(trained, measured):
    """Four layers, four micro batches: 2 x 2 reductions less per layer are gone, one way forward and one backward."""
    _, spread = trained
    twice, once = (spread[f"{block}, tensor 2"]["all_reduces"] for block in ("sequential", "parallel"))
    layers, micro_batches = 4, 4
    measured(f"all-reduces of a step at TP2: {twice} with the sequential block, {once} with the parallel one")
    assert twice - once == layers * micro_batches * 2
