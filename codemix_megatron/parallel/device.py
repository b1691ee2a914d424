"""Which device a run computes on, and which kernels it computes with."""

import importlib.util
from functools import cache
from pathlib import Path

import torch

from codemix_megatron.errors import LaunchError
from codemix_megatron.parallel.fusions import cross_entropy_kernel, version_fault
from codemix_megatron.placement import Placement

__all__ = [
    "APEX_MODULES",
    "active_engines",
    "active_kernels",
    "choose_device",
    "device_of_rank",
    "slow_paths",
    "transformer_engine_fault",
    "weight_gradients",
]

# apex is built in parts; each of the three switches something else in megatron-core.
APEX_MODULES = ("amp_C", "fused_weight_gradient_mlp_cuda", "fused_layer_norm_cuda")


def choose_device(wanted: str) -> torch.device:
    """Return the torch device for `auto`, `cpu` or `cuda`; raises LaunchError when CUDA is asked for and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise LaunchError("parallel.device: cuda is asked for, torch finds none; set parallel.device=auto or cpu", exit_code=2)
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def device_of_rank(placement: Placement, visible: int) -> torch.device:
    """Return the GPU of a rank, out of those it sees: the one of its number, or the only one where each task was given its own.

    Slurm shows a task all GPUs of the job on its node, or with --gpus-per-task, --gpu-bind and the like its own alone, as number 0.
    """
    if visible == 1:
        return torch.device("cuda", 0)
    if placement.local_rank >= visible:
        raise LaunchError(
            f"rank {placement.rank} is number {placement.local_rank} of {placement.local_size} on its node and sees {visible} GPUs; start as many"
            " ranks on a node as it has GPUs, and show each of them all (or its own alone)",
            exit_code=2,
        )
    return torch.device("cuda", placement.local_rank)


def is_there(module: str) -> bool:
    """Say whether a module can be found, without importing it."""
    if module != "transformer_engine_torch":
        return importlib.util.find_spec(module) is not None
    # Transformer Engine loads its part for torch from a file: in its own folder, in wheel_lib there, or beside it.
    package = importlib.util.find_spec("transformer_engine")
    if package is None or package.origin is None:
        return False
    folder = Path(package.origin).parent
    return any(found for searched in (folder, folder / "wheel_lib", folder.parent) for found in searched.glob(f"{module}*.so"))


@cache
def import_fault(module: str) -> str | None:
    """Say why a module that is there cannot be imported, as one that was built for another torch cannot."""
    try:
        importlib.import_module(module)
    except Exception as fault:  # whatever its initialisation raises
        return f"{type(fault).__name__}: {fault}".splitlines()[0]
    return None


def active_engines() -> dict[str, bool]:
    """Return which optional engines are completely installed: Transformer Engine with its part for torch, and apex's extension modules.

    apex's Adam is Python around amp_C, so that it needs the package too.
    """
    engines = {"transformer_engine": is_there("transformer_engine") and transformer_engine_fault() is None}
    engines |= {name: is_there(name) and import_fault(name) is None for name in APEX_MODULES}
    engines["amp_C"] &= is_there("apex")
    return engines


def broken_modules() -> list[str]:
    """Return a line for each of apex's extension modules that is there and cannot be imported."""
    found = [(name, import_fault(name)) for name in APEX_MODULES if is_there(name)]
    return [f"{name} is installed and cannot be imported ({fault}); build apex again for this torch" for name, fault in found if fault]


def transformer_engine_fault() -> str | None:
    """Say what is wrong with a half installed Transformer Engine, with which megatron-core cannot even be imported."""
    if not is_there("transformer_engine"):
        return None
    if not is_there("transformer_engine_torch"):
        return "transformer_engine is installed without transformer_engine_torch, its part for torch; install that or remove both"
    if fault := import_fault("transformer_engine.pytorch"):
        return f"transformer_engine cannot be imported ({fault}); build it again for this torch or remove it"
    return version_fault()


def active_kernels(device: torch.device, normalization: str = "rmsnorm", precision: str = "bf16") -> dict[str, str]:
    """Return part of a training step -> what computes it on this device, for a model with norms of this kind."""
    engines = active_engines() if device.type == "cuda" else dict.fromkeys(active_engines(), False)
    transformer_engine = engines["transformer_engine"]
    cross_entropy = {"te": "Transformer Engine", "native": "megatron-core, fused", None: "megatron-core"}
    adam = "Transformer Engine" if transformer_engine else "apex" if engines["amp_C"] else "torch, fused"
    return {
        "linears": "Transformer Engine" if transformer_engine else "torch",
        "norms": "Transformer Engine" if transformer_engine and normalization == "rmsnorm" else "torch",
        "attention": "Transformer Engine" if transformer_engine else "torch, scaled_dot_product_attention",
        "rotary positions": "Transformer Engine" if transformer_engine else "torch",
        "cross entropy": cross_entropy[cross_entropy_kernel(device.type == "cuda", transformer_engine, precision)],
        "Adam": adam,
        "weight gradients": f"added up by {weight_gradients(engines)}",
    }


def weight_gradients(engines: dict[str, bool]) -> str:
    """Return whose kernel adds a weight's gradient to those of earlier micro batches while it computes it."""
    if engines["fused_weight_gradient_mlp_cuda"]:
        return "apex"
    return "Transformer Engine" if engines["transformer_engine"] else "torch"


def slow_paths(device: torch.device, normalization: str = "rmsnorm") -> list[str]:
    """Return a line for each thing that makes a model with norms of this kind slower than it could be; none on CPU."""
    if device.type != "cuda":
        return []
    engines, lines = active_engines(), broken_modules()
    if engines["transformer_engine"] and normalization == "layernorm":
        lines.append("Transformer Engine has no LayerNorm without bias: norms run on torch's kernel, apart from the linears behind them")
    if not engines["transformer_engine"]:
        lines.append("Transformer Engine is not installed: attention, rotary positions and norms run on torch's kernels")
        if not engines["amp_C"]:
            lines.append("neither Transformer Engine nor apex (amp_C) is installed: Adam and the gradient norm run on torch's kernels")
    if weight_gradients(engines) == "torch":
        lines.append(
            "neither Transformer Engine nor apex's fused_weight_gradient_mlp_cuda is installed: weight gradients are added up apart"
        )
    return lines
