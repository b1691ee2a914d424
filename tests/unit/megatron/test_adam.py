"""Our Adam is torch's AdamW with the step in the parameter group."""

import torch

from codemix_megatron.megatron.adam import Adam


def steps_of(make, num_steps=7):
    """Return the weights after some steps on fixed gradients."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(4))]
    optimizer = make([{"params": weights[:1], "weight_decay": 0.1}, {"params": weights[1:], "weight_decay": 0.0}])
    for _ in range(num_steps):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    return weights, optimizer


def test_weights_equal_torchs_adamw():
    ours, _ = steps_of(lambda groups: Adam(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8))
    theirs, _ = steps_of(lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)


def test_step_stands_in_the_group_and_not_beside_parameters():
    _, optimizer = steps_of(Adam)
    assert [group["step"] for group in optimizer.param_groups] == [7, 7]
    assert all(set(state) == {"exp_avg", "exp_avg_sq"} for state in optimizer.state.values())


def test_step_advances_for_a_group_without_gradients():
    """Distributed optimizers leave some ranks' groups empty; the steps must stay equal over ranks."""
    optimizer = Adam([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
    optimizer.step()
    assert optimizer.param_groups[0]["step"] == 1


def test_counts_of_steps_lie_where_the_parameters_are(monkeypatch):
    """The CUDA kernel reads them after it was launched: on the host they would be freed by then."""
    from codemix_megatron.megatron import adam

    seen = []
    monkeypatch.setattr(adam, "adamw", lambda params, grads, m, v, extra, steps, **options: seen.extend(steps))
    weights = [torch.nn.Parameter(torch.zeros(3, device="meta")) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    Adam(weights).step()
    assert [step.device.type for step in seen] == ["meta", "meta"] and all(step.shape == () for step in seen)
