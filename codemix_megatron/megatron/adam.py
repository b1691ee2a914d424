"""AdamW in the manner of FusedAdam: `step` stands in the parameter group, not beside every parameter.

megatron-core's distributed optimizer is written for FusedAdam (Transformer Engine, apex). With torch's own
AdamW, versions 0.16.1 and 0.19.2 alike raise on a fresh state, lose `step` on saving, and share ONE step
tensor between all parameters after loading, which advances bias correction once per parameter.
"""

import torch
from torch.optim.adamw import adamw

__all__ = ["Adam"]


class Adam(torch.optim.Optimizer):
    """Decoupled weight decay Adam (Loshchilov & Hutter 2019) through torch's own kernels."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, adam_w_mode=True, bias_correction=True, **ignored):
        if not adam_w_mode or not bias_correction:
            raise ValueError("only decoupled weight decay with bias correction is here")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """Update every parameter that has a gradient; groups advance their step together, empty ones too."""
        for group in self.param_groups:
            group["step"] = int(group.get("step", 0)) + 1
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.update(group, params)

    def update(self, group, params) -> None:
        """Run torch's kernel over one group."""
        for p in params:
            if not self.state[p]:
                self.state[p]["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                self.state[p]["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        states = [self.state[p] for p in params]
        beta1, beta2 = group["betas"]
        adamw(
            params,
            [p.grad for p in params],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            steps_before(group["step"], params),
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def steps_before(step: int, params: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the count of steps before this one for each parameter, which the kernel counts up first, on the parameters' device.

    The CUDA kernel reads them after it was launched: host memory would be freed by then.
    """
    return list(torch.full((len(params),), float(step - 1), device=params[0].device).unbind())
