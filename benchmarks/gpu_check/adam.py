"""The fused Adam that a run takes, against torch's AdamW in fp64 on CPU, over many tensors.

python adam.py torch|transformer-engine
"""

import sys

from child import answer, leave_without, prepare

RATE, DECAY, EPSILON, STEPS = 1e-2, 0.1, 1e-8, 5
SIZES = [1, 7, 255, 4096, 65537] * 8
ALLOWED = 1e-5  # of a weight, which moves by 0.05


def main() -> None:
    """Update the same weights by the same gradients in both."""
    layers = sys.argv[1]
    leave_without(layers)
    prepare(layers)
    import torch

    if layers == "torch":
        from codemix_megatron.megatron.adam import Adam as Fused
    else:
        from transformer_engine.pytorch.optimizers import FusedAdam as Fused
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(size, generator=draw) for size in SIZES]
    gradients = [[torch.randn(size, generator=draw) for size in SIZES] for _ in range(STEPS)]
    exact = [torch.nn.Parameter(weight.double()) for weight in start]
    fused = [torch.nn.Parameter(weight.to("cuda")) for weight in start]
    judge = torch.optim.AdamW(exact, lr=RATE, weight_decay=DECAY, eps=EPSILON)
    optimizer = Fused(fused, lr=RATE, weight_decay=DECAY, eps=EPSILON)
    for step in gradients:
        for gradient, one, other in zip(step, exact, fused, strict=True):
            one.grad, other.grad = gradient.double(), gradient.to("cuda")
        judge.step()
        optimizer.step()
        scratch = [torch.full((1,), float("nan"), device="cuda") for _ in range(1024)]  # what freed memory would hold next
        del scratch
    largest = max((one - other.detach().cpu().double()).abs().max().item() for one, other in zip(exact, fused, strict=True))
    faults = [] if largest <= ALLOWED else [f"weights are {largest:.1e} from AdamW's after {STEPS} steps, allowed {ALLOWED:.0e}"]
    answer(faults, layers, kernel=f"{Fused.__module__}.{Fused.__name__}", tensors=len(SIZES), largest_difference=largest)


if __name__ == "__main__":
    main()
