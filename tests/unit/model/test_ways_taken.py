"""A step on CPU goes through every faster way that this package puts in megatron-core's place: none is passed by in silence."""

import pytest
import torch
from many_layouts import VOCABULARY, batches, recipe_of

from codemix_megatron.model.build import build_model
from codemix_megatron.parallel.ranks import one_rank

OURS = {
    "RowsBackward",
    "RotationBackward",
    "NormalizationBackward",
    "GatedSiluBackward",
    "LinearWithGradAccumulationAndAsyncCommunicationBackward",
}
FOR_NOTHING = {"_CopyToModelParallelRegionBackward", "_ReduceFromModelParallelRegionBackward"}


def functions_of(loss: torch.Tensor) -> set[str]:
    """Return the names of all functions that led to a loss."""
    found, ahead = set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in found:
            found.add(node)
            ahead += [before for before, _ in node.next_functions]
    return {node.name() for node in found}


@pytest.mark.parametrize("model", [{}, {"block": "parallel", "rotary_interleaved": True}], ids=["sequential", "parallel"])
def test_every_faster_way_is_taken(model):
    with one_rank(device="cpu"):
        (chunk,) = build_model(recipe_of(model, {}, {}), VOCABULARY, torch.device("cpu"))
        for weight in chunk.parameters():
            weight.main_grad = torch.zeros_like(weight)  # as DistributedDataParallel gives them
        ids = torch.from_numpy(batches(1)[0])
        positions = torch.arange(ids.shape[1] - 1).expand(len(ids), -1)
        names = functions_of(chunk(ids[:, :-1], positions, None, labels=ids[:, 1:]).mean())
    assert not OURS - names and not names & FOR_NOTHING
