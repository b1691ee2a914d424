"""Gradients of an embedding are those of torch's own, wherever they are collected."""

import pytest
import torch

from codemix_megatron.megatron.embedding import embedding

IDS = torch.tensor([[3, 1, 3], [0, 3, 6]])  # 3 comes three times


@pytest.mark.parametrize("says", [False, True], ids=["says it itself", "the output layer says it"])
def test_rows_are_added_to_what_was_collected_before(says):
    draw = torch.Generator().manual_seed(0)
    values, factors = torch.randn(7, 4, generator=draw), torch.randn(2, 3, 4, generator=draw)
    theirs = values.clone().requires_grad_()
    (torch.nn.functional.embedding(IDS, theirs) * factors).sum().backward()
    ours = torch.nn.Parameter(values.clone())
    ours.main_grad, ours.grad_added_to_main_grad, ours.output_layer_tells = torch.ones(7, 4), False, says
    found = embedding(IDS, ours)
    assert torch.equal(found, theirs[IDS])
    (found * factors).sum().backward()
    torch.testing.assert_close(ours.main_grad, theirs.grad + 1)
    assert ours.grad_added_to_main_grad and (ours.grad is None) == says


def test_weight_that_nothing_collects_for_gets_a_gradient_of_its_own():
    weight = torch.nn.Parameter(torch.randn(7, 4))
    embedding(IDS, weight).sum().backward()
    assert weight.grad[3].tolist() == [3.0] * 4
