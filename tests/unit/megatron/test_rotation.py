"""Our rotary positions are megatron-core's bit for bit, forward and backward."""

import pytest
import torch

from codemix_megatron.megatron import rotation


@pytest.mark.parametrize("interleaved", [False, True])
def test_channels_and_gradients_are_megatrons(interleaved):
    generator = torch.Generator().manual_seed(0)
    channels = torch.randn(16, 2, 5, 8, generator=generator, requires_grad=True)
    angles = torch.randn(16, 1, 1, 4, generator=generator)
    angles = angles.repeat_interleave(2, dim=-1) if interleaved else torch.cat([angles, angles], dim=-1)
    gradient = torch.randn(16, 2, 5, 8, generator=generator)
    ours, theirs = rotation.rotate(channels, angles, interleaved), rotation.megatrons_own(channels, angles, interleaved)
    assert torch.equal(ours, theirs)
    (back,), (expected,) = (torch.autograd.grad(turned, channels, gradient) for turned in (ours, theirs))
    assert torch.equal(back, expected)
