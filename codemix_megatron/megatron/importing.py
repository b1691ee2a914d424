"""Importing megatron-core without what no rank here uses."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from codemix_megatron.megatron.switches import is_left_out

__all__ = ["import_megatron"]

UNUSED = ("wandb", "torch.utils.tensorboard")  # megatron-core takes an ImportError of these; trackers here import them themselves
NEVER_COMPILED = ("add_param_group", "state_dict", "load_state_dict")  # of torch's optimizer; each loads dynamo to be left out by it


def import_megatron() -> None:
    """Import megatron.core for the first time in a process, before any module that needs it.

    Measured, megatron-core 0.16.1 on CPU: 9.4 CPU-seconds become 5.6, in every process. Its inference engine imports
    wandb, its timers tensorboard, and its fused functions call torch.compile, which loads dynamo and inductor; on CPU they
    are switched off (`model/config.py`), and compiling them would need a C++ compiler on every machine. Dynamo then stays
    away from the ranks too, where torch's optimizer would load it: one CPU-second more on each of them.
    """
    import torch

    if "megatron.core" in sys.modules:
        return
    compile_function, compiles = torch.compile, torch.cuda.is_available() or is_left_out("compiler at import")
    if not compiles:
        setattr(torch, "compile", lambda function: function)  # noqa: B010
    try:
        with hidden(() if is_left_out("trackers at import") else UNUSED):
            from megatron.core import jit

        if not compiles and hasattr(jit, "disable_jit_fuser"):  # installing.py says so where it is not
            jit.disable_jit_fuser()  # for modules of megatron-core that are imported later
            for name in NEVER_COMPILED:
                function = inspect.unwrap(getattr(torch.optim.Optimizer, name))
                setattr(function, "__dynamo_disable", function)  # where torch._compile looks for it
    finally:
        torch.compile = compile_function


@contextmanager
def hidden(modules: tuple[str, ...]) -> Iterator[None]:
    """Let imports of these modules fail for a while."""
    before = {name: sys.modules.get(name) for name in modules}
    cast("dict[str, Any]", sys.modules).update(dict.fromkeys(modules))  # None: an import fails
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
