"""A process that is the only rank takes the threads it was told to take, as every program with OpenMP does."""

import pytest
import torch

from codemix_megatron.cores import available_cores
from codemix_megatron.parallel.ranks import one_rank, threads_alone


@pytest.mark.parametrize(
    ("asked", "expected"), [("1", 1), ("3", 3), ("", available_cores()), ("0", available_cores()), ("4,2", available_cores())]
)
def test_threads_are_those_of_the_environment_or_one_for_each_core(monkeypatch, asked, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_alone() == expected


def test_a_single_rank_computes_with_them(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before + 1))
    try:
        with one_rank(device="cpu"):
            assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
