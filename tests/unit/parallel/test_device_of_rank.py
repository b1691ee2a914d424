"""Which GPU a rank takes, out of those its launcher shows it."""

import pytest

from codemix_megatron.errors import LaunchError
from codemix_megatron.parallel.device import device_of_rank
from codemix_megatron.placement import Placement

PLACE = Placement(11, 16, 3, 8, "srun")


def test_rank_takes_the_gpu_of_its_number_among_all_of_its_node():
    assert device_of_rank(PLACE, 8).index == 3


def test_rank_that_sees_its_own_gpu_alone_takes_that():
    assert device_of_rank(PLACE, 1).index == 0


def test_rank_without_a_gpu_of_its_own_is_refused():
    with pytest.raises(LaunchError, match="rank 11 is number 3 of 8 on its node and sees 2 GPUs"):
        device_of_rank(PLACE, 2)
