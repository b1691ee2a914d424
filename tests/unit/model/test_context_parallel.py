"""Each context parallel rank has an early and a late part of every sequence; together they have each position once."""

import pytest
import torch

from codemix_megatron.model import context_parallel
from codemix_megatron.model.context_parallel import context_parallel_slice, own_positions


@pytest.fixture
def be_rank(monkeypatch):
    """Be one of several context parallel ranks."""

    def become(rank: int, size: int) -> None:
        monkeypatch.setattr(context_parallel.parallel_state, "get_context_parallel_world_size", lambda: size)
        monkeypatch.setattr(context_parallel.parallel_state, "get_context_parallel_rank", lambda: rank)

    return become


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_ranks_find_at_their_own_positions_is_together_what_is_at_the_positions_asked_for(be_rank, size):
    rows = torch.arange(4 * 12).reshape(4, 12) * 10  # what a model might find at each position
    asked = torch.tensor([0, 11, 12, 17, 30, 35, 47])
    found = torch.full((len(asked),), -1)
    for rank in range(size):
        be_rank(rank, size)
        part = context_parallel_slice(rows)
        assert part.shape == (4, 12 // size)
        is_own, where = own_positions(asked, 12)
        assert (found[is_own] == -1).all(), "a position belongs to one rank"
        found[is_own] = part.flatten()[where]
    assert torch.equal(found, asked * 10)


def test_all_ranks_attend_to_as_much(be_rank):
    attended = []
    for rank in range(4):
        be_rank(rank, 4)
        attended.append(int((context_parallel_slice(torch.arange(32)[None]) + 1).sum()))  # a position sees all before it and itself
    assert len(set(attended)) == 1
