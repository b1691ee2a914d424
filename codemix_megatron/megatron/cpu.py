"""What stands in for CUDA where megatron-core calls it outright and this process computes on CPU over gloo."""

import contextlib
from collections.abc import Iterator, Sequence

import torch

__all__ = [
    "CpuStream",
    "WeightGradients",
    "cpu_device",
    "cpu_random_state",
    "cpu_stream",
    "fork_on_cpu",
    "scale_in_place",
    "seed_cpu",
    "set_cpu_random_state",
    "stay_on_cpu",
    "synchronize_cpu",
    "tracked_random_state",
]


class CpuStream:
    """Stands in for a CUDA stream: on CPU everything is already in order."""

    def wait_stream(self, other: object) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Do nothing."""


class WeightGradients:
    """Stands in for apex's fused_weight_gradient_mlp_cuda: a weight's gradient is added up by the product that makes it."""

    @staticmethod
    def wgrad_gemm_accum_fp32(inputs: torch.Tensor, gradients: torch.Tensor, total: torch.Tensor) -> None:
        """Add gradients.T @ inputs, of [tokens, out] and [tokens, in], to `total` [out, in]."""
        if inputs.dtype == total.dtype:
            total.addmm_(gradients.t(), inputs)
        else:
            total.add_(gradients.t() @ inputs)


def scale_in_place(chunk_size: int, noop_flag: torch.Tensor, tensor_lists: Sequence[list[torch.Tensor]], scale: float) -> None:
    """Multiply the second list from the first; clipping gives one list twice, which megatron-core's own way copies."""
    for source, target in zip(*tensor_lists, strict=True):
        torch.mul(source, scale, out=target)


@contextlib.contextmanager
def fork_on_cpu(self, name: str = "model-parallel-rng") -> Iterator[None]:
    """Draw from the tracked stream `name`, then put the CPU generator back."""
    if name not in self.states_:
        raise KeyError(f"random stream {name!r} was never added; there are {', '.join(self.states_)}")
    before = torch.get_rng_state()
    torch.set_rng_state(self.states_[name])
    try:
        yield
    finally:
        self.states_[name] = torch.get_rng_state()
        torch.set_rng_state(before)


def cpu_device() -> torch.device:
    """Return the device that is the current one."""
    return torch.device("cpu")


def synchronize_cpu(device: object = None) -> None:
    """Wait for nothing."""


def cpu_stream(device: object = None) -> CpuStream:
    """Return the stream everything runs on."""
    return CpuStream()


def seed_cpu(seed: int) -> None:
    """Seed the device's generator, which is torch's."""
    torch.manual_seed(seed)


def cpu_random_state(device: object = "cuda") -> torch.Tensor:
    """Return the state of the device's generator."""
    return torch.get_rng_state()


def set_cpu_random_state(new_state: torch.Tensor, device: object = -1, graph_safe: bool = False) -> None:
    """Set the state of the device's generator."""
    torch.set_rng_state(new_state)


def tracked_random_state(device: object = "cuda", clone: bool = False, graph_safe: bool = False) -> torch.Tensor:
    """Return the state that megatron-core tracks for a stream."""
    return torch.get_rng_state()


def stay_on_cpu(self: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
    """Return the tensor where it is."""
    return self
