"""Values as they cross between a program and its tests: plain data by value, all else as a number that its owner knows.

A message is JSON. What JSON has no form for is a list that begins with a tag. Nothing that is read runs code of the
sender's: no pickle, no names beyond ALLOWED, and a nesting that ends. Only the standard library is imported here, for
this file is handed to the interpreter in the sandbox.
"""

import builtins
import collections
import importlib
import json

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself takes too long to import for every program
    from typing import Any

__all__ = ["ALLOWED", "Coder", "ValueFault", "dump", "plain_value"]

LARGEST_NUMBER = 1 << 53
DEEPEST = 150
EXCEPTIONS = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)}
# What a program may name and its tests then use of their own: none of it runs what it is given as code, or reads attributes.
ALLOWED = {
    "builtins": EXCEPTIONS
    | {"int", "float", "complex", "bool", "str", "bytes", "bytearray", "list", "tuple", "dict", "set", "frozenset", "object", "range"}
    | {"slice", "len", "abs", "sum", "min", "max", "sorted", "pow", "round", "divmod", "all", "any", "ord", "chr", "hex", "bin", "oct"}
    | {"repr", "enumerate", "zip", "map", "filter", "reversed", "iter", "next", "print"},
    "math": None,  # all of it
    "cmath": None,
    "itertools": None,
    "copy": {"copy", "deepcopy"},
    "operator": {"add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "abs", "and_", "or_", "xor", "not_", "concat"}
    | {"lt", "le", "eq", "ne", "gt", "ge", "contains"},
    "typing": {"Any", "List", "Dict", "Tuple", "Set", "Optional", "Union", "Callable", "Iterable", "Iterator", "Sequence"},
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque", "namedtuple"},
    "fractions": {"Fraction"},
    "decimal": {"Decimal"},
    "datetime": {"date", "datetime", "time", "timedelta"},
}
CONTAINERS: "dict[str, Any]" = {  # changed in place, so their identity crosses too
    kind.__name__: kind
    for kind in (list, dict, set, bytearray, collections.deque, collections.Counter, collections.OrderedDict, collections.defaultdict)
}
SEQUENCES: "dict[str, Any]" = {"tuple": tuple, "frozenset": frozenset}
SIMPLE: "dict[tuple[str, str], Any]" = {  # classes whose values are made of a few others
    ("builtins", "complex"): lambda value: (value.real, value.imag),
    ("builtins", "range"): lambda value: (value.start, value.stop, value.step),
    ("builtins", "slice"): lambda value: (value.start, value.stop, value.step),
    ("decimal", "Decimal"): lambda value: (str(value),),
    ("fractions", "Fraction"): lambda value: (value.numerator, value.denominator),
    ("datetime", "timedelta"): lambda value: (value.days, value.seconds, value.microseconds),
    ("datetime", "date"): lambda value: (value.year, value.month, value.day),
    ("datetime", "time"): lambda value: (value.hour, value.minute, value.second, value.microsecond),
    ("datetime", "datetime"): lambda v: (v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond),
}
BASES = (bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset, collections.deque)
ARRAYS = "biufcSUMm"  # kinds of numpy's types that hold values and no objects


class ValueFault(ValueError):
    """A value that cannot cross, or a message that is none."""


class Coder:
    """Encodes and decodes for one side of a channel.

    `number_of(object)` is the number of a stand-in (None for any other object), `describe(object)` numbers what stays here;
    `own(number)` and `stand_in(*description)` are the ways back. `restricted` is the side that trusts nothing.
    """

    def __init__(self, number_of, describe, own, stand_in, restricted: bool):
        self.number_of, self.describe, self.own, self.stand_in, self.restricted = number_of, describe, own, stand_in, restricted

    def encode(self, value, memo: dict, depth: int = 0):
        """Return JSON for a value; `memo` holds (number, object) by identity, so that a list that occurs twice stays one."""
        kind: Any = type(value)
        if kind in (type(None), bool, str, float):
            return value
        if kind is int:
            return value if -LARGEST_NUMBER < value < LARGEST_NUMBER else ["int", hex(value)]
        if depth > DEEPEST:
            raise ValueFault(f"nested more than {DEEPEST} deep")
        tag: str = kind.__name__
        if CONTAINERS.get(tag) is kind:
            if id(value) in memo:
                return ["same", memo[id(value)][0]]
            number = len(memo)
            memo[id(value)] = number, value
            return ["container", tag, number, self.contents(value, memo, depth)]
        if SEQUENCES.get(tag) is kind:
            return [tag, [self.encode(entry, memo, depth + 1) for entry in value]]
        if (kind.__module__, kind.__name__) in SIMPLE and getattr(value, "tzinfo", None) is None:
            parts = SIMPLE[kind.__module__, kind.__name__](value)
            return ["simple", kind.__module__, kind.__name__, [self.encode(part, memo, depth + 1) for part in parts]]
        return self.encode_other(value, kind, memo, depth)

    def contents(self, value, memo: dict, depth: int = 0):
        """Return JSON for what a container holds."""
        if isinstance(value, bytearray):
            return value.hex()
        if isinstance(value, dict):
            return [[self.encode(key, memo, depth + 1), self.encode(entry, memo, depth + 1)] for key, entry in dict.items(value)]
        return [self.encode(entry, memo, depth + 1) for entry in list(value)]

    def encode_other(self, value, kind: "Any", memo: dict, depth: int):
        """Return JSON for values of rarer classes, by name for what both sides have, else a number."""
        if kind is bytes:
            return ["bytes", value.hex()]
        if value is ...:
            return ["ellipsis"]
        if (number := self.number_of(value)) is not None:
            return ["yours", number]
        if (found := global_name(value)) is not None:
            return ["global", *found]
        if isinstance(value, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
            entries = [self.encode(entry, memo, depth + 1) for entry in tuple.__iter__(value)]
            return ["namedtuple", kind.__name__, list(kind._fields), entries]
        if kind.__module__.partition(".")[0] == "numpy" and getattr(getattr(value, "dtype", None), "kind", "O") in ARRAYS:
            return ["numpy", value.dtype.str, list(value.shape), value.tobytes().hex()]
        if isinstance(value, (int, float, str, bytes)) and not hasattr(kind, "__members__"):
            return self.encode(plain_value(value), memo, depth)
        return ["theirs", *self.describe(value)]

    def decode(self, message, memo: dict, depth: int = 0):
        """Return the value of a message; `memo` holds containers by number. Raises ValueFault for what is no message."""
        if message is None or isinstance(message, (bool, int, float, str)):
            return message
        if depth > DEEPEST + 2 or not isinstance(message, list) or not message:
            raise ValueFault("not a value")
        reader = READERS.get(message[0]) if isinstance(message[0], str) else None
        if reader is None:
            raise ValueFault("not the tag of a value")
        return reader(self, memo, depth + 1, *message[1:])

    def decode_all(self, messages, memo: dict, depth: int) -> list:
        """Return the values of a list of messages."""
        if not isinstance(messages, list):
            raise ValueFault("not a list of values")
        return [self.decode(message, memo, depth) for message in messages]

    def fill(self, container, contents, memo: dict, depth: int = 0) -> None:
        """Give a container new contents."""
        if isinstance(container, bytearray):
            container[:] = bytes.fromhex(contents)
        elif isinstance(container, dict):
            pairs = [(self.decode(key, memo, depth), self.decode(entry, memo, depth)) for key, entry in contents]
            dict.clear(container)
            for key, entry in pairs:
                dict.__setitem__(container, key, entry)
        else:
            entries = self.decode_all(contents, memo, depth)
            container.clear()
            container.update(entries) if isinstance(container, set) else container.extend(entries)


def read_container(coder, memo, depth, name, number, contents):
    """Rebuild a container; it is known before it is filled, for it may hold itself."""
    memo[number] = container = CONTAINERS[name]()
    coder.fill(container, contents, memo, depth)
    return container


def read_simple(coder, memo, depth, module, name, parts):
    """Make a small value of its parts."""
    if (module, name) not in SIMPLE:
        raise ValueFault("not a simple value")
    return getattr(importlib.import_module(module), name)(*coder.decode_all(parts, memo, depth))


def read_namedtuple(coder, memo, depth, name, fields, entries):
    """Make a named tuple; the library refuses fields that are no names."""
    return collections.namedtuple(name, fields)(*coder.decode_all(entries, memo, depth))


def read_numpy(coder, memo, depth, dtype, shape, text):
    """Make an array, or one of numpy's numbers."""
    numpy = importlib.import_module("numpy")
    if numpy.dtype(dtype).kind not in ARRAYS:
        raise ValueFault("not an array of values")
    array = numpy.frombuffer(bytes.fromhex(text), dtype).reshape(shape).copy()
    return array if shape else array[()]


def read_global(coder, memo, depth, module, name):
    """Return what both sides have under this name."""
    names = ALLOWED.get(module, ())
    if coder.restricted and (name.startswith("_") or not (names is None or name in names)):
        raise ValueFault(f"{module}.{name} is not among what may be named")
    return getattr(importlib.import_module(module), name)


READERS: "dict[str, Any]" = {
    "int": lambda coder, memo, depth, text: int(text, 16),
    "same": lambda coder, memo, depth, number: memo[number],
    "bytes": lambda coder, memo, depth, text: bytes.fromhex(text),
    "ellipsis": lambda coder, memo, depth: ...,
    "tuple": lambda coder, memo, depth, entries: tuple(coder.decode_all(entries, memo, depth)),
    "frozenset": lambda coder, memo, depth, entries: frozenset(coder.decode_all(entries, memo, depth)),
    "container": read_container,
    "simple": read_simple,
    "namedtuple": read_namedtuple,
    "numpy": read_numpy,
    "global": read_global,
    "yours": lambda coder, memo, depth, number: coder.own(number),
    "theirs": lambda coder, memo, depth, *description: coder.stand_in(*description),
}


def global_name(value) -> tuple[str, str] | None:
    """Return (module, name) of a function or class that the other side has too."""
    name = getattr(value, "__name__", None) if callable(value) else None
    module = getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    module = module.removeprefix("_")
    if module in ALLOWED and getattr(importlib.import_module(module), name, None) is value:
        return module, name
    return None


def plain_value(value):
    """Return what an object of a derived class holds as one of its base, so that its own methods have no say; raises TypeError."""
    base = next((base for base in BASES if isinstance(value, base)), None)
    if base is None:
        raise TypeError(f"{type(value).__name__} holds no plain value")
    if base is dict:
        return dict(dict.items(value))
    if base in (int, float, complex):
        return base.__add__(value, base())
    if base in (str, bytes):
        return base.__add__(value, base())
    return base(base.__iter__(value)) if base is not bool else value


def dump(message) -> bytes:
    """Return a message as bytes."""
    return json.dumps(message, check_circular=False, separators=(",", ":")).encode()
