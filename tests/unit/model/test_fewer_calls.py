"""Entering and leaving split parts of a layer costs one tensor rank nothing, and several all they need."""

from types import SimpleNamespace

import torch
from megatron.core.tensor_parallel import layers

from codemix_megatron.model.fewer_calls import install_fewer_calls, unless_alone


def test_a_group_of_one_gets_back_what_it_gave_and_others_go_the_whole_way():
    def region(values, group):
        return values + group.size()

    values, enter = torch.zeros(1), unless_alone(region)
    assert enter(values, group=SimpleNamespace(size=lambda: 1)) is values
    assert enter(values, group=SimpleNamespace(size=lambda: 2)).item() == 2


def test_installing_again_changes_nothing():
    install_fewer_calls()
    product = layers.LinearWithGradAccumulationAndAsyncCommunication
    first = product.forward, product.backward, layers.copy_to_tensor_model_parallel_region
    install_fewer_calls()
    assert first == (product.forward, product.backward, layers.copy_to_tensor_model_parallel_region)
