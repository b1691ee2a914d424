"""Every key of a recipe: the block it stands in, its default, what it may be and what it means, from the dataclasses themselves."""

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from inspect import cleandoc
from types import NoneType
from typing import Literal, get_args, get_origin, get_type_hints

from codemix_megatron.recipe.schema import Recipe

__all__ = ["Block", "Key", "recipe_blocks"]

NEEDED = "needed"
WORDS = {bool: "true or false", int: "integer", float: "number", str: "text", dict: "mapping", NoneType: ""}
READ_AS = {"tokens": "tokens, such as 1.5M", "tokens_or_zero": "tokens, such as 1.5M", "mixture": "mapping"}


@dataclass(frozen=True)
class Key:
    """A key: `default` as it is written in YAML, `needed` where there is none, empty where leaving the key out is no value of its own."""

    name: str
    default: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Block:
    """A mapping of the recipe: `path` is empty for the recipe itself; NAME in it is any name, N an index into a list."""

    path: str
    about: str
    keys: tuple[Key, ...]


def recipe_blocks() -> list[Block]:
    """Return all blocks in the order in which a recipe is written, each before those inside it."""
    return list(walk(Recipe, ""))


def walk(kind: type, path: str) -> Iterator[Block]:
    """Yield a block and all inside it."""
    types = get_type_hints(kind)
    options = [field for field in fields(kind) if "help" in field.metadata]
    keys = [Key(f.name, written_default(f), value_of(f, types[f.name]), f.metadata["help"]) for f in options]
    yield Block(path, cleandoc(kind.__doc__ or ""), tuple(keys))
    for field in options:
        for below, inside in dataclasses_in(types[field.name], f"{path}.{field.name}".lstrip(".")):
            yield from walk(inside, below)


def dataclasses_in(annotation, path: str) -> Iterator[tuple[str, type]]:
    """Yield (path, dataclass) of all blocks that a field of this type may hold."""
    if is_dataclass(annotation) and isinstance(annotation, type):
        yield path, annotation
        return
    origin = get_origin(annotation)
    step = ".NAME" if origin is dict else ".N" if origin is tuple else ""
    for inner in get_args(annotation):
        yield from dataclasses_in(inner, path + step)


def written_default(field: Field) -> str:
    """Return a field's default as a recipe would say it."""
    if field.default is MISSING:
        return NEEDED if field.default_factory is MISSING else ""
    return as_yaml(field.default)


def as_yaml(value) -> str:
    """Return a plain value in YAML's flow style."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def value_of(field: Field, annotation) -> str:
    """Say what a field may be, in words."""
    return READ_AS.get(field.metadata["reader"]) or in_words(annotation)


def in_words(annotation) -> str:
    """Say what a type stands for: choices by their names, blocks by theirs."""
    if annotation in WORDS:
        return WORDS[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(as_yaml, inner))
    if origin is dict:
        return f"by name: {in_words(inner[1])}"
    choices = " or ".join(dict.fromkeys(filter(None, (in_words(part) for part in inner if part is not ...))))
    if origin is tuple:
        return f"list: {choices}"
    if choices:
        return choices
    return "block" if is_dataclass(annotation) else "mapping"
