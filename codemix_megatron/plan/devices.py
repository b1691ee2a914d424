"""How long a plan takes on known accelerators, and whether it fits into their memory."""

from dataclasses import dataclass, replace

from codemix_megatron.errors import RecipeError

__all__ = ["DEVICES", "ROOM_TO_SPARE", "Device", "check_device", "device_called", "device_hours", "on_device"]

ROOM_TO_SPARE = 0.9  # of the memory; the allocator, NCCL and kernels want the rest


@dataclass(frozen=True)
class Device:
    """Peak dense bf16 TFLOP/s with fp32 accumulation, and memory in 10^9 bytes."""

    teraflops: float
    memory_gigabytes: float


DEVICES = {
    "a40": Device(149.7, 48),  # NVIDIA A40 data sheet
    "a100": Device(312, 80),  # NVIDIA A100 data sheet, 80GB SXM
    "a100-40": Device(312, 40),  # NVIDIA A100 data sheet, 40GB
    "l40s": Device(362, 48),  # NVIDIA L40S data sheet (733 with sparsity)
    "rtx4090": Device(165.2, 24),  # NVIDIA Ada GPU architecture whitepaper, appendix A
    "h100": Device(989, 80),  # NVIDIA H100 data sheet, SXM (1979 with sparsity)
    "h100-pcie": Device(756, 80),  # NVIDIA H100 data sheet, PCIe (1513 with sparsity)
    "h200": Device(989, 141),  # NVIDIA H200 data sheet (1979 with sparsity)
    "b200": Device(2250, 180),  # NVIDIA HGX B200 data sheet, an eighth of 8 devices (4500 each with sparsity)
    "mi300x": Device(1307, 192),  # AMD Instinct MI300X data sheet
    "v4": Device(275, 32),  # Google Cloud TPU documentation, v4
    "v5e": Device(197, 16),  # Google Cloud TPU documentation, v5e
    "v5p": Device(459, 95),  # Google Cloud TPU documentation, v5p
    "v6e": Device(918, 32),  # Google Cloud TPU documentation, v6e
}


def device_called(name: str, memory_bytes: int) -> str | None:
    """Return the key of a device by the name its driver gives it, such as `NVIDIA H100 80GB HBM3`; None for an unknown one."""
    words = name.lower().replace("-", " ").split()
    if "a100" in words:
        return "a100" if memory_bytes > 60e9 else "a100-40"
    if "h100" in words:
        return "h100-pcie" if "pcie" in words else "h100" if "nvl" not in words else None
    if "4090" in words:
        return "rtx4090" if "laptop" not in words else None
    return next((key for key in ("h200", "b200", "l40s", "a40", "mi300x") if key in words), None)


def device_hours(flops: float, device: str, mfu: float) -> float:
    """Return the hours one device needs for `flops` model FLOPs at a share `mfu` of its peak."""
    return flops / (DEVICES[device].teraflops * 1e12 * mfu) / 3600


def check_device(name: str, mfu: float) -> None:
    """Raise RecipeError for unknown devices and impossible shares."""
    if name not in DEVICES:
        raise RecipeError(f"no device {name!r}; known are {', '.join(DEVICES)}", where="--device")
    if not 0 < mfu <= 1:
        raise RecipeError(f"found {mfu:g}, must be above 0 and at most 1; 0.3 to 0.5 is usual on GPUs", where="--mfu")


def on_device(plan, name: str, mfu: float):
    """Return the plan with hours, device-hours and what fits; raises RecipeError as check_device does."""
    check_device(name, mfu)
    hours, memory_bytes = device_hours(plan.flops["total"], name, mfu), int(DEVICES[name].memory_gigabytes * 1e9)
    fits = {choice: size <= ROOM_TO_SPARE * memory_bytes for choice, size in plan.memory_by_recompute.items()}
    answer = {
        "name": name,
        "mfu": mfu,
        "peak_flops_per_second": DEVICES[name].teraflops * 1e12,
        "memory_bytes": memory_bytes,
        "device_hours": hours,
        "hours": hours / plan.layout["ranks"],
        "fits": fits,  # recompute choice -> within nine tenths of the memory
    }
    return replace(plan, device=answer)
