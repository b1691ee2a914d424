"""Transformer Engine's extra states: bytes that hold a pickle, which it loads without asking what is named in it.

`get_extra_state` of Transformer Engine 2 returns a tensor of bytes, pickle.dumps of its FP8 recipe, scales and counters (before: an io.BytesIO of
torch.save). Every reader of torch's takes that for harmless numbers; `set_extra_state` then unpickles them. So they are looked through here first:
recipes, formats, tensors and plain values are let in, everything else is refused by its name.
"""

import io
import pickle
from typing import Any

import torch

__all__ = ["check_extra_states"]

MARK = "_extra_state"
RECIPES = "transformer_engine.common.recipe"
# Not CustomRecipe: it holds a function that Transformer Engine calls.
CLASSES = frozenset(
    ("DelayedScaling", "Float8CurrentScaling", "MXFP8BlockScaling", "Float8BlockScaling", "NVFP4BlockScaling", "Format", "_FormatHelper",
     "MMParams", "QParams")
)  # fmt: skip
PLAIN = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch", "Size"), ("torch", "device")}
FORMATS = frozenset(("E2M1", "E4M3", "E5M2", "HYBRID"))


class Made:
    """In the place of a class of Transformer Engine, which need not be installed to look through its states."""

    def __new__(cls, *_: Any, **__: Any) -> "Made":
        """Take whatever it is made of."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class ExtraStateUnpickler(pickle.Unpickler):
    """Builds what extra states consist of and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that is allowed, or a stand-in for one of Transformer Engine's."""
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return load_storage
        if (module, name) == ("builtins", "getattr"):
            return format_member  # how some versions of Python pickle members of enumerations
        if module == RECIPES and name in CLASSES:
            return type(name, (Made,), {})
        if (module, name) not in PLAIN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def load_storage(data: bytes) -> Any:
    """Return the storage of a pickled tensor, which is a file of torch.save inside the pickle."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def format_member(enumeration: type, name: str) -> Made:
    """Return what stands for a member of Transformer Engine's enumeration of formats; raises UnpicklingError for any other attribute."""
    if enumeration.__name__ != "Format" or not issubclass(enumeration, Made) or name not in FORMATS:
        raise pickle.UnpicklingError(f"it asks for {name!r} of {enumeration.__name__}")
    return Made()


def check_extra_states(name: str, found: Any) -> None:
    """Look through what an object of a checkpoint holds under names of extra states; raises UnpicklingError for what they may not name."""
    if isinstance(found, dict):
        for key, value in found.items():
            check_extra_states(name if MARK in name else str(key), value)
    elif isinstance(found, (list, tuple)):
        for value in found:
            check_extra_states(name, value)
    elif MARK in name:
        check_bytes(name, found)


def check_bytes(name: str, found: Any) -> None:
    """Look through one extra state."""
    try:
        if isinstance(found, io.BytesIO):
            load_storage(found.getvalue())
        elif isinstance(found, torch.Tensor) and found.numel():
            if found.dtype != torch.uint8:
                raise pickle.UnpicklingError(f"it holds {found.dtype}, and no bytes")
            ExtraStateUnpickler(io.BytesIO(found.detach().cpu().numpy().tobytes())).load()
    except Exception as fault:  # a stream of bytes can fail in any way
        raise pickle.UnpicklingError(f"{name}: {str(fault).strip() or type(fault).__name__}") from fault
