"""Importing megatron-core without what no rank here uses."""

import sys

__all__ = ["import_megatron"]


def import_megatron() -> None:
    """Import megatron.core for the first time in a process, before any module that needs it.

    Measured, megatron-core 0.16.1 on CPU: 9.4 CPU-seconds become 5.6, on every rank of every start. Its inference
    engine imports wandb, and its fused functions call torch.compile, which loads dynamo and inductor; on CPU they
    are switched off (`model/config.py`), and compiling them would need a C++ compiler on every machine.
    """
    import torch

    if "megatron.core" in sys.modules:
        return
    compile_function, wandb = torch.compile, sys.modules.get("wandb")
    sys.modules["wandb"] = None  # an import of it fails, which megatron-core expects
    if not torch.cuda.is_available():
        torch.compile = lambda function: function
    try:
        from megatron.core import jit

        if not torch.cuda.is_available():
            jit.disable_jit_fuser()  # for modules of megatron-core that are imported later
    finally:
        torch.compile = compile_function
        del sys.modules["wandb"]
        if wandb is not None:
            sys.modules["wandb"] = wandb
