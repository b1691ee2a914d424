"""RMSNorm by our own passes: torch's values bit for bit, and the right gradients."""

import torch

from codemix_megatron.megatron.root_mean_square import normalize


def both(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return an input, a weight and a gradient, the same numbers in any dtype."""
    draw = torch.Generator().manual_seed(0)
    x, weight, gradient = (torch.randn(shape, generator=draw).to(dtype) for shape in ((5, 2, 24), (24,), (5, 2, 24)))
    return x.requires_grad_(), weight.requires_grad_(), gradient


def test_values_are_those_of_torch_bit_for_bit():
    x, weight, _ = both(torch.float32)
    assert torch.equal(normalize(x, weight, 1e-5), torch.nn.functional.rms_norm(x, (24,), weight, 1e-5))


def test_gradients_are_those_of_double_precision_to_rounding():
    x, weight, gradient = both(torch.float32)
    normalize(x, weight, 1e-5).backward(gradient)
    exact_x, exact_weight, exact_gradient = both(torch.float64)
    torch.nn.functional.rms_norm(exact_x, (24,), exact_weight, 1e-5).backward(exact_gradient)
    torch.testing.assert_close(x.grad.double(), exact_x.grad, rtol=0, atol=2e-6)
    torch.testing.assert_close(weight.grad.double(), exact_weight.grad, rtol=0, atol=2e-6)


def test_other_precisions_go_through_torch():
    x, weight, _ = both(torch.bfloat16)
    assert torch.equal(normalize(x, weight, 1e-5), torch.nn.functional.rms_norm(x, (24,), weight, 1e-5))
