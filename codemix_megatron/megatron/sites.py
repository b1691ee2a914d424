"""Sites in megatron-core and torch where this package puts something else: what has to be there, and how it is replaced."""

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

__all__ = ["Absent", "CudaNames", "Mark", "Replaced", "Site", "Unwrapped", "names_in", "parameters_of", "plain_functions"]

CUDA_TO_CPU = {
    "cuda": "cpu",
    "torch.cuda.FloatTensor": "torch.FloatTensor",
    "torch.cuda.HalfTensor": "torch.HalfTensor",
    "torch.cuda.BFloat16Tensor": "torch.BFloat16Tensor",
}


class Absent(Exception):
    """Nothing has this name; the message is what stops here."""


@dataclass(frozen=True)
class Site:
    """A name in a module: `module:path.to.attribute`; `versions` are those of megatron-core that have it, by default all."""

    target: str
    versions: str = field(default="", kw_only=True)

    @property
    def path(self) -> str:
        """The dotted name, as messages have it."""
        return self.target.replace(":", ".")

    def fault(self) -> str | None:
        """Say what does not fit here, before anything was replaced; None where everything does."""
        raise NotImplementedError

    def apply(self) -> None:
        """Replace it; only after `fault` has found nothing."""
        raise NotImplementedError


@dataclass(frozen=True)
class Replaced(Site):
    """An attribute that becomes another: a function of known parameters, a class or a plain value.

    `expected` is what megatron-core has there: the parameters of a function, one way of writing them for each supported version,
    the name of the value's type, or `absent` for what only another package would bring. `read_by` names a function in whose
    code the name has to stand: a name that nobody reads any more can be replaced without any effect.
    """

    replacement: object
    expected: tuple[str, ...]
    read_by: str = ""

    def fault(self) -> str | None:
        """Compare existence, parameters and readers."""
        try:
            have = "absent" if "absent" in self.expected and self.is_absent() else described(found(self.target))
            reader = found(self.read_by) if self.read_by else None
        except Absent as absent:
            return f"{absent} is no longer there"
        if have not in self.expected:
            return f"{self.path} is {have}, not {' or '.join(self.expected)}"
        name = self.target.rpartition(":")[2].rpartition(".")[2]
        if reader is not None and name not in names_in(reader):
            return f"{self.read_by.replace(':', '.')} no longer reads {name}"
        return None

    def is_absent(self) -> bool:
        """Say whether its owner is there and it is not."""
        owner, name = owner_of(self.target)
        return not hasattr(owner, name)

    def apply(self) -> None:
        """Set the attribute; without a replacement it is one that this package calls or overrides, and only has to be there."""
        owner, name = owner_of(self.target)
        value: Any = self.replacement
        if value is None:
            return
        if isinstance(value, str):
            value = found(value)
            if isinstance(inspect.getattr_static(owner, name, None), staticmethod):
                value = staticmethod(value)
        setattr(owner, name, value)


@dataclass(frozen=True)
class Mark(Site):
    """An attribute that this package sets on megatron-core's objects, or overrides; `target` is the function that has to read it."""

    name: str

    def fault(self) -> str | None:
        """See whether the function still reads the attribute."""
        try:
            reader = found(self.target)
        except Absent as absent:
            return f"{absent} is no longer there"
        return None if self.name in names_in(reader) else f"{self.path} no longer reads {self.name}"

    def apply(self) -> None:
        """Change nothing: objects are marked where they are made."""


@dataclass(frozen=True)
class Unwrapped(Site):
    """A static method that loses its decorators."""

    expected: tuple[str, ...]

    def fault(self) -> str | None:
        """Compare existence and parameters."""
        try:
            have = described(found(self.target))
        except Absent as absent:
            return f"{absent} is no longer there"
        return None if have in self.expected else f"{self.path} is {have}, not {' or '.join(self.expected)}"

    def apply(self) -> None:
        """Put the innermost function in its place."""
        owner, name = owner_of(self.target)
        setattr(owner, name, staticmethod(inspect.unwrap(getattr(owner, name))))


@dataclass(frozen=True)
class CudaNames(Site):
    """A function whose constants name "cuda" and come to name "cpu": its code object is rebuilt once, so that a call costs nothing more."""

    def fault(self) -> str | None:
        """See whether it is there and names a CUDA device at all."""
        try:
            functions = plain_functions(found(self.target))
        except Absent as absent:
            return f"{absent} is no longer there"
        if any(on_cpu(function.__code__) is not function.__code__ for function in functions):
            return None
        return f'{self.path} no longer names "cuda"'

    def apply(self) -> None:
        """Rebuild its code, and that of what it wraps."""
        for function in plain_functions(found(self.target)):
            function.__code__ = on_cpu(function.__code__)


def found(target: str) -> Any:
    """Return what a name stands for. Raises Absent with the shortest part of it that is not there."""
    module, _, path = target.partition(":")
    try:
        there: Any = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name is None or not module.startswith(missing.name):
            raise
        raise Absent(missing.name) from None
    passed = module
    for part in path.split("."):
        passed = f"{passed}.{part}"
        if not hasattr(there, part) or is_inherited(there, part):
            raise Absent(passed)
        there = getattr(there, part)
    return there


def is_inherited(owner: object, name: str) -> bool:
    """Say whether a class has a method from another class written in Python: a method that is gone must not turn into its base's."""
    return inspect.isclass(owner) and name not in vars(owner) and inspect.isfunction(getattr(owner, name))


def owner_of(target: str) -> tuple[object, str]:
    """Return the module or class that a name belongs to, and the last part of it."""
    module, _, path = target.partition(":")
    before, _, name = path.rpartition(".")
    return (found(f"{module}:{before}") if before else importlib.import_module(module)), name


def described(there: object) -> str:
    """Return the parameters of a function, `class` for a class, the type's name for everything else."""
    if inspect.isclass(there):
        return "class"
    return parameters_of(there) if isinstance(inspect.unwrap(there), FunctionType) else type(there).__name__  # type: ignore[arg-type]


def parameters_of(function: object) -> str:
    """Return the parameters of a function with their defaults, without annotations.

    >>> parameters_of(lambda a, *, b=1: None)
    '(a, *, b=1)'
    """
    signature = inspect.signature(function)  # type: ignore[arg-type]
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def plain_functions(function: object) -> list[FunctionType]:
    """Return the function and those it wraps (decorators, class methods)."""
    functions: list[FunctionType] = []
    while function is not None:
        function = getattr(function, "__func__", function)
        if isinstance(function, FunctionType):
            functions.append(function)
        function = getattr(function, "__wrapped__", None)
    return functions


def names_in(function: object) -> set[str]:
    """Return every name and text in the code of a function, those of nested functions too; of a class, those of all its methods."""
    methods = list(vars(function).values()) if inspect.isclass(function) else [function]
    return {name for method in methods for plain in plain_functions(method) for name in names_of_code(plain.__code__)}


def names_of_code(code: CodeType) -> Iterator[str]:
    """Yield names and texts of one code object."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from names_of_code(constant)


def on_cpu(code: CodeType) -> CodeType:
    """Return the code object with constants replaced, or the same object when there are none."""
    constants = tuple(constant_on_cpu(constant) for constant in code.co_consts)
    same = all(new is old for new, old in zip(constants, code.co_consts, strict=True))
    return code if same else code.replace(co_consts=constants)


def constant_on_cpu(constant: object) -> object:
    """Replace one constant: text, a tuple of texts, or nested code."""
    if isinstance(constant, str):
        return CUDA_TO_CPU.get(constant, constant)
    if isinstance(constant, tuple):
        replaced = tuple(constant_on_cpu(item) for item in constant)
        return replaced if any(new is not old for new, old in zip(replaced, constant, strict=True)) else constant
    if isinstance(constant, CodeType):
        return on_cpu(constant)
    return constant
