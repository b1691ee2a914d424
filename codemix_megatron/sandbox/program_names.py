"""The names that the tests of a program see: their own, the program's, and modules that answers are compared with."""

import ast
import builtins
import importlib
import sys
import types

from codemix_megatron.sandbox.channel import Channel
from codemix_megatron.sandbox.mutants import Nothing
from codemix_megatron.sandbox.stand_ins import StandIn

__all__ = ["Module", "Names", "imported_module", "lent"]

# What tests compare with although only the program may have imported it: name -> (module, name in it).
OWN = {name: (name, None) for name in ("math", "cmath", "statistics", "copy", "operator", "numpy")} | {
    "np": ("numpy", None), "isclose": ("math", "isclose"), "deepcopy": ("copy", "deepcopy"), "approx": ("pytest", "approx"),
}  # fmt: skip


def imported_module(name: str) -> types.ModuleType | None:
    """Return a module, None where this interpreter has none of that name."""
    try:
        return __import__(name)
    except ImportError:
        return None


class Names(dict):
    """The names of the tests; those they do not define are the program's, or with `make` what stands for it."""

    def __init__(self, channel: Channel, names: set, make=None):
        super().__init__()
        self._channel, self._names, self._make = channel, names, make

    def __missing__(self, name):
        if name in OWN and name not in self._names and (module := imported_module(OWN[name][0])):
            return getattr(module, OWN[name][1]) if OWN[name][1] else module
        if name not in self._names:
            raise KeyError(name)
        return self._make() if self._make else fetched(self._channel, name)

    def __contains__(self, name):
        return super().__contains__(name) or name in self._names

    def only_function(self) -> str | None:
        """Return the name of the program's only function, None where it has none or several."""
        found = [name for name in sorted(self._names) if is_function(self[name])]
        return found[0] if len(found) == 1 else None


def is_function(value) -> bool:
    """Say whether a name of the program's is a function of its own."""
    return isinstance(value, Nothing) or (isinstance(value, StandIn) and type(value).__name__ == "function")


def lent(names: set, tests: ast.AST) -> set:
    """Return the program's names that its tests see.

    The name of a builtin, or of a module that answers are compared with, is the program's only where the tests use nothing
    else of it: `abs` belongs to the tests that compare with it, `sum` to those that test a function called so.
    """
    used = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)} & names
    if used - OWN.keys() - set(dir(builtins)):
        return {name for name in names if name not in OWN and not hasattr(builtins, name)}
    return names


def fetched(channel: Channel, name: str):
    """Return what the program has under a name; modules of the standard library are the tests' own."""
    value = channel.ask("global", name)
    called = value.__dict__.get("_module") if isinstance(value, StandIn) else None
    if called and called.partition(".")[0] in (*sys.stdlib_module_names, "numpy"):
        return importlib.import_module(called)
    return value


class Module(types.ModuleType):
    """`__main__` as tests see it when they look it up: its names are theirs."""

    def __init__(self, names: dict):
        super().__init__("__main__")
        object.__setattr__(self, "_held", names)

    def __getattr__(self, name):
        try:
            return object.__getattribute__(self, "_held")[name]
        except KeyError:
            raise AttributeError(name) from None
