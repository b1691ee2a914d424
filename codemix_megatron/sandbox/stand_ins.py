"""Stand-ins: objects of one side that the other side calls, reads and compares without having them.

What tests expect never goes to the program: a stand-in equals no plain value unless what it holds does, and numbers are
not handed to it to compute with. Otherwise an object whose every comparison says yes would pass any test.
"""

import builtins
import copy
import operator
import types

from codemix_megatron.sandbox.values import EXCEPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself takes too long to import for every program
    from typing import Any

__all__ = ["Objects", "ProgramExit", "StandIn", "StandInClass"]

DEEPEST_CLASS = 20
# A program cannot end the loops or the process of its tests.
ENDS_LOOPS = {"StopIteration", "StopAsyncIteration", "GeneratorExit", "KeyboardInterrupt"}
BINARY = ["add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and", "or", "xor"]
ORDERS = ("lt", "le", "gt", "ge")
UNARY: "dict[str, Any]" = {
    "__neg__": operator.neg, "__pos__": operator.pos, "__abs__": abs, "__invert__": operator.invert, "__len__": len, "__bool__": bool,
    "__hash__": hash, "__iter__": iter, "__reversed__": reversed, "__int__": int, "__float__": float, "__complex__": complex,
    "__index__": operator.index, "__round__": round, "__str__": str, "__repr__": repr, "__format__": format, "__bytes__": bytes,
    "__getitem__": operator.getitem, "__setitem__": operator.setitem, "__delitem__": operator.delitem, "__copy__": copy.copy,
    "__deepcopy__": lambda value, memo=None: copy.deepcopy(value), "__contains__": operator.contains, "__eq__": operator.eq,
    "__enter__": lambda value: type(value).__enter__(value), "__exit__": lambda value, *fault: type(value).__exit__(value, None, None, None),
}  # fmt: skip
OPERATIONS = UNARY | {f"__{name}__": getattr(operator, name, None) or getattr(operator, f"{name}_") for name in (*BINARY, *ORDERS)}
OPERATIONS |= {f"__i{name}__": getattr(operator, f"i{name}", None) for name in BINARY}


class ProgramExit(SystemExit):
    """The program left, in a function that its tests called; not the tests' own sys.exit()."""


class StandInClass(type):
    """The class of stand-ins for classes: calling one makes an instance on the other side."""

    _objects: "Any" = None
    _number: int | None = None

    def __call__(cls, *arguments, **named):
        return cls._objects.ask("call", cls, arguments, named)

    def __getattr__(cls, name):
        if cls._number is None:
            raise AttributeError(name)
        return cls._objects.ask("getattr", cls, name)

    def __setattr__(cls, name, value):
        if cls._number is None or name.startswith("__"):
            type.__setattr__(cls, name, value)
        else:
            cls._objects.ask("setattr", cls, name, value)

    def __iter__(cls):
        return cls._objects.ask("operation", "__iter__", cls)

    def __len__(cls):
        return cls._objects.ask("operation", "__len__", cls)

    def __getitem__(cls, key):
        return cls._objects.ask("operation", "__getitem__", cls, key)


class StandIn(metaclass=StandInClass):
    """An object of the other side."""

    def __call__(self, *arguments, **named):
        return self._objects.ask("call", self, arguments, named)

    def __getattr__(self, name):
        if name in ("_number", "_objects"):
            raise AttributeError(name)
        return self._objects.ask("getattr", self, name)

    def __setattr__(self, name, value):
        if name.startswith("__"):
            object.__setattr__(self, name, value)
        else:
            self._objects.ask("setattr", self, name, value)

    def __delattr__(self, name):
        self._objects.ask("delattr", self, name)

    def __next__(self):
        is_there, value = self._objects.ask("next", self)
        if not is_there:
            raise StopIteration
        return value

    def __eq__(self, other):
        if self is other:
            return True
        if isinstance(other, StandIn) or not self._objects.restricted:
            return bool(self._objects.ask("operation", "__eq__", self, other))
        is_plain, value = self._objects.ask("plain", self)
        return bool(is_plain and value == other)

    def __ne__(self, other):
        return not self == other

    def __contains__(self, item):
        if isinstance(item, StandIn) or not self._objects.restricted:
            return bool(self._objects.ask("operation", "__contains__", self, item))
        try:
            items = iter(self)
        except TypeError:
            return bool(self._objects.ask("operation", "__contains__", self, item))
        return any(item == other for other in items)

    def __hash__(self):
        return hash(self._objects.ask("operation", "__hash__", self))


def forwarded(name: str):
    """Return the method that has the other side do it."""

    def method(self, *arguments):
        return self._objects.ask("operation", name, self, *arguments)

    return method


def computed(name: str, *, swapped: bool = False):
    """Return the method of an operator with two sides."""

    def method(self, other):
        is_number = isinstance(other, (int, float, complex)) or type(other).__module__ in ("decimal", "fractions", "numpy")
        if self._objects.restricted and is_number and not (name == "__mul__" and isinstance(other, int)):
            return NotImplemented  # the number may be the answer that is expected
        sides = (other, self) if swapped else (self, other)
        return self._objects.ask("operation", name, *sides)

    return method


def ordered(name: str):
    """Return the method of an order: against a plain value, only by what the other side's object holds as one."""

    def method(self, other):
        if isinstance(other, StandIn) or not self._objects.restricted:
            return bool(self._objects.ask("operation", name, self, other))
        is_plain, value = self._objects.ask("plain", self)
        return OPERATIONS[name](value, other) if is_plain else NotImplemented

    return method


for _name in UNARY.keys() - {"__eq__", "__contains__", "__hash__"}:
    type.__setattr__(StandIn, _name, forwarded(_name))
for _name in BINARY:
    type.__setattr__(StandIn, f"__{_name}__", computed(f"__{_name}__"))
    type.__setattr__(StandIn, f"__r{_name}__", computed(f"__{_name}__", swapped=True))
    type.__setattr__(StandIn, f"__i{_name}__", computed(f"__i{_name}__"))
for _name in ORDERS:
    type.__setattr__(StandIn, f"__{_name}__", ordered(f"__{_name}__"))


class Objects:
    """What one side has handed out, and its stand-ins for what the other side has. `serve` is given by the side."""

    def __init__(self, serve, *, restricted: bool):
        self.serve, self.restricted = serve, restricted
        self.ask: Any = None  # given with the channel
        self.handed_out: list = []
        self.numbers: dict[int, int] = {}
        self.stand_ins: dict[int, object] = {}

    def number_of(self, value) -> int | None:
        """Return the number of a stand-in, None for anything else."""
        if isinstance(value, StandInClass):
            return value._number
        return value.__dict__.get("_number") if isinstance(type(value), StandInClass) else None

    def describe(self, value) -> list:
        """Number an object that stays here, and say what a stand-in must know of it."""
        number = self.numbers.setdefault(id(value), len(self.handed_out))
        if number == len(self.handed_out):
            self.handed_out.append(value)  # kept, so that its identity is nobody else's
        if isinstance(value, type):
            return [number, "class", value.__name__, [base_of(self, base) for base in value.__bases__]]
        if isinstance(value, types.CoroutineType):
            return [number, "coroutine", value.__name__, None]
        if isinstance(value, types.ModuleType):
            return [number, "module", value.__name__, None]
        kind = type(value)
        return [number, "object", kind.__name__, self.describe(kind) if kind.__module__ == "__main__" else None]

    def own(self, number):
        """Return what was handed out under a number."""
        if not isinstance(number, int) or number < 0:
            raise KeyError(number)
        return self.handed_out[number]

    def stand_in(self, number: int, kind: str, name: str, more, *, depth: int = 0):
        """Return the stand-in for an object of the other side, always the same one."""
        if not (isinstance(number, int) and isinstance(name, str)) or depth > DEEPEST_CLASS:
            raise ValueError("not the description of an object")
        if number not in self.stand_ins:
            self.stand_ins[number] = self.made(number, kind, name[:200], more, depth)
        return self.stand_ins[number]

    def made(self, number: int, kind: str, name: str, more, depth: int):
        """Make a stand-in."""
        if kind == "class":
            return self.made_class(number, name, more, depth)
        if kind == "coroutine":
            return self.awaited(number)
        own_class: Any = self.stand_in(*more, depth=depth + 1) if more else self.made_class(None, name, [], depth)
        if not isinstance(own_class, StandInClass):
            raise ValueError("not the description of an object")
        value: Any = object.__new__(own_class) if not issubclass(own_class, BaseException) else BaseException.__new__(own_class)
        value.__dict__.update(_number=number, _module=name if kind == "module" else None)
        return value

    def made_class(self, number: int | None, name: str, bases: list, depth: int) -> type:
        """Make the stand-in for a class, derived from those of its bases."""
        found: list[Any] = [
            getattr(builtins, base) if isinstance(base, str) else self.stand_in(*base, depth=depth + 1) for base in bases if base
        ]
        found = [base for base in found if isinstance(base, StandInClass) or base.__name__ in EXCEPTIONS]
        if not any(isinstance(base, StandInClass) for base in found):
            found = [StandIn, *found]
        try:
            made = StandInClass(name, tuple(found), {"_objects": self, "__module__": "program"})
        except TypeError:  # bases that do not go together here
            made = StandInClass(name, (StandIn,), {"_objects": self, "__module__": "program"})
        type.__setattr__(made, "_number", number)
        return made

    async def awaited(self, number: int):
        """Stand for a coroutine: run to its end on the other side when it is awaited."""
        return self.ask("await", number)

    def described(self, fault: BaseException) -> tuple:
        """Return (builtin class, location, arguments, the exception itself where its class is the program's own)."""
        kind = next(kind for kind in type(fault).__mro__ if kind.__name__ in EXCEPTIONS and kind.__module__ == "builtins")
        arguments = tuple(a if isinstance(a, (int, float, str, bytes, type(None))) else ascii_of(a) for a in fault.args)
        return kind.__name__, where_of(fault), arguments, fault if type(fault).__module__ == "__main__" else None

    def raised(self, description) -> BaseException:
        """Return the exception that the other side describes."""
        try:
            name, where, arguments, fault = description
            kind = getattr(builtins, name) if name in EXCEPTIONS else Exception
        except (TypeError, ValueError):
            return RuntimeError("the program raised something that is not an exception")
        if name == "SystemExit":
            fault = ProgramExit(*arguments)
        elif name in ENDS_LOOPS:
            fault = RuntimeError(f"the program raised {name}")
        elif not isinstance(fault, BaseException):
            fault = made_exception(kind, arguments)
        fault.__dict__["_where"] = str(where)[:100]
        return fault


def base_of(objects: Objects, base: type):
    """Describe a base class: an exception by its name, the program's own by its number, None for what nobody catches."""
    if base.__module__ == "builtins":
        return base.__name__ if base.__name__ in EXCEPTIONS else None
    return (
        objects.describe(base)
        if base.__module__ == "__main__"
        else next((b.__name__ for b in base.__mro__ if b.__name__ in EXCEPTIONS), None)
    )


def made_exception(kind: type, arguments) -> BaseException:
    """Return an exception of a builtin class, whatever it wants to be made of."""
    try:
        return kind(*arguments)
    except TypeError:
        fault: BaseException = kind.__new__(kind)  # type: ignore[call-overload]
        fault.args = tuple(arguments)
        return fault


def where_of(fault: BaseException) -> str:
    """Return the last line of the program that an exception came through."""
    line, trace = None, fault.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "program.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""


def ascii_of(value) -> str:
    """Return a text for an argument of an exception, whatever its class does."""
    try:
        return ascii(value)[:200]
    except BaseException as fault:
        return f"<{type(fault).__name__}>"
