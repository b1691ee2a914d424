"""Which device a run computes on, and which engines are there."""

import importlib.util

import torch

from codemix_megatron.errors import LaunchError

__all__ = ["APEX_MODULES", "active_engines", "choose_device"]

# apex is built in parts; each of the three switches something else in megatron-core.
APEX_MODULES = ("amp_C", "fused_weight_gradient_mlp_cuda", "fused_layer_norm_cuda")


def choose_device(wanted: str) -> torch.device:
    """Return the torch device for `auto`, `cpu` or `cuda`; raises LaunchError when CUDA is asked for and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise LaunchError("parallel.device: cuda is asked for, torch finds none; set parallel.device=auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def active_engines() -> dict[str, bool]:
    """Return which optional engines can be imported: transformer_engine and apex's extension modules."""
    return {name: importlib.util.find_spec(name) is not None for name in ("transformer_engine", *APEX_MODULES)}
