"""Modules of triton kernels that megatron-core imports outright, where there is no triton: stand-ins whose kernels nobody calls."""

import importlib.util
import sys
from types import ModuleType

__all__ = ["stand_in_for_kernels"]

# Where the kernels are: of 0.18 and of 0.19. A stand-in for triton itself would not do: torch takes it for the real one.
KERNELS = ("transformer.moe.paged_stash", "transformer.moe.ops.paged_stash")


def stand_in_for_kernels() -> None:
    """Put stand-ins where kernels would be imported from; only before megatron.core is imported, and only without triton."""
    if importlib.util.find_spec("triton") is not None:
        return
    for name in KERNELS:
        if imports_triton(name):
            sys.modules[f"megatron.core.{name}"] = Kernels(f"megatron.core.{name}")


def imports_triton(name: str) -> bool:
    """Say whether a file of megatron-core is there and imports triton as its first thing; nothing of it is run."""
    megatron = importlib.util.find_spec("megatron")  # without a parent: finding megatron.core would be importing megatron
    for folder in (megatron.submodule_search_locations or ()) if megatron else ():
        try:
            with open(f"{folder}/core/{name.replace('.', '/')}.py", encoding="utf-8") as source:
                return any(line.rstrip() == "import triton" for line in source)
        except OSError:
            continue
    return False


class Kernels(ModuleType):
    """A module in which every name is a function that says what is missing."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> None:
            raise ModuleNotFoundError(f"{self.__name__}.{name} is a kernel of triton, which is not installed here", name="triton")

        return missing
