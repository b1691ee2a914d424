"""Warnings of megatron-core and torch that nobody here can act on."""

import warnings

__all__ = ["hide_upstream_warnings"]


def hide_upstream_warnings() -> None:
    """Hide what is said about engines that are not installed and functions that were renamed; `codemix doctor` says what is active."""
    for module in ("megatron", "torch.distributed", "torch.nn.parallel", "torch.autograd"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?")
