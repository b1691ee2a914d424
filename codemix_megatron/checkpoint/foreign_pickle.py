"""Files that Megatron-LM pickled (common.pt, model_optim_rng.pt), read without running anything they name.

They hold an argparse.Namespace with enumerations and dtypes beside tensors. What is listed here is let in; classes of Megatron's own
become empty stand-ins that take whatever they are given; everything else is refused by name.
"""

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch

from codemix_megatron.checkpoint.torch_dist import MetadataUnpickler, enum_member
from codemix_megatron.errors import ConversionError

__all__ = ["load_foreign", "load_foreign_object"]

ALLOWED_GLOBALS = {
    "argparse": {"Namespace"},
    "builtins": {"set", "frozenset", "slice", "complex", "bytearray"},
    "collections": {"OrderedDict"},
    "datetime": {"timedelta"},
    "pathlib": {"PosixPath", "Path", "PurePosixPath"},
    "signal": {"Signals"},
    "torch": {"Size", "device", "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool",
              "float8_e4m3fn", "float8_e5m2", "Tensor"},
    "torch._utils": {"_rebuild_tensor_v2", "_rebuild_parameter"},
    "torch.nn.parameter": {"Parameter"},
    "torch.serialization": {"_get_layout"},
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "_codecs": {"encode"},
}  # fmt: skip
STAND_INS = ("megatron.", "transformer_engine.", "nvidia_resiliency_ext.")


class StandIn:
    """An object of a class that is not loaded: it can be made and filled, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *given: Any, **_: Any) -> None:
        self.given = given

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *given: Any, **named: Any) -> "StandIn":
        return StandIn(*given, **named)

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.given}"


class ForeignUnpickler(MetadataUnpickler):
    """Builds what is listed and stand-ins; torch subclasses it, for tensors' storages."""

    allowed: ClassVar[dict[str, set[str]]] = ALLOWED_GLOBALS
    needed_by: ClassVar[str] = "checkpoint of Megatron-LM"

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that is allowed, or a stand-in for one of Megatron's."""
        if (module, name) == ("builtins", "getattr"):
            return enumeration_member  # how some versions of Python pickle members
        if module.startswith(STAND_INS):
            return type(name.rpartition(".")[2], (StandIn,), {})
        return super().find_class(module, name)


def enumeration_member(enumeration: type, name: str) -> Any:
    """Return a member of an enumeration, or a stand-in of one."""
    return enumeration(name) if issubclass(enumeration, StandIn) else enum_member(enumeration, name)


class foreign_pickle:
    """What torch.load takes for the module pickle."""

    Unpickler = ForeignUnpickler

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        """Read one object."""
        return ForeignUnpickler(file, **options).load()


def load_foreign(path: Path) -> dict:
    """Return the mapping a file of torch.save holds, tensors mapped from the file where it can be; raises ConversionError naming what is wrong."""
    with readable(path):
        try:
            found = load(path, mmap=True)
        except RuntimeError:  # only files in the format of torch 1.6 and later can be mapped
            found = load(path)
    return checked(found, path)


def load_foreign_object(content: bytes, where: Path | str) -> dict:
    """Return the mapping that bytes of torch.save hold, or the one that is alone in a list there."""
    with readable(where):
        found = load(io.BytesIO(content))
    return checked(found[0] if isinstance(found, list) and len(found) == 1 else found, where)


def load(source: Any, **options: Any) -> Any:
    """Have torch read with the pickle of this file."""
    return torch.load(source, map_location="cpu", pickle_module=foreign_pickle, weights_only=False, **options)


@contextmanager
def readable(where: Path | str) -> Iterator[None]:
    """Raise ConversionError in place of what reading a damaged or hostile file raises."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError, AttributeError, EOFError, KeyError, TypeError, IndexError) as fault:
        reason = (str(fault) or type(fault).__name__).splitlines()[0]
        raise ConversionError(f"{where}: cannot be read ({reason}); is it a file that Megatron-LM saved?") from None


def checked(found: Any, where: Path | str) -> dict:
    """Return what is a mapping; raises ConversionError for anything else."""
    if not isinstance(found, dict):
        raise ConversionError(f"{where}: holds a {type(found).__name__}, not the mapping Megatron-LM saves")
    return found
