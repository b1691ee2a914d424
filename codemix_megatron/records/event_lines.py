"""Events as lines of JSON: a dataclass for each kind, whose fields are written in their order and read back whichever version wrote them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self, TypeVar

__all__ = ["Event", "always", "kinds_by_name", "meanings", "of_kind", "sometimes"]

REQUIRED: Any = object()


def always(meaning: str, *, missing: Any, default: Any = REQUIRED) -> Any:
    """Declare a field that every line of the kind holds; `missing` (a value, or what makes one) stands for it in lines that lack it.

    Whoever makes an event has to give the field, unless there is a `default`: one that is measured later, on the way to the file.
    """
    metadata = {"meaning": meaning, "missing": missing, "is_optional": False}
    if default is REQUIRED:
        return field(metadata=metadata)
    return field(default_factory=default, metadata=metadata) if callable(default) else field(default=default, metadata=metadata)


def sometimes(meaning: str) -> Any:
    """Declare a field that is None, and not written, where there is nothing to say."""
    return field(default=None, metadata={"meaning": meaning, "missing": None, "is_optional": True})


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened, as one line. `kind` is what the line calls it."""

    kind: ClassVar[str] = ""

    def as_json(self) -> dict[str, Any]:
        """Return the line's object: `event` first, then the fields in the order they are declared in."""
        line: dict[str, Any] = {"event": self.kind}
        for known in declared(type(self)):
            value = getattr(self, known.attribute)
            if value is not None or not known.is_optional:
                line[known.key] = value
        return line

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Return the event of a line. Fields that other versions added are ignored, those they lacked (or left null) are filled in."""
        values = {known.attribute: line.get(known.key) for known in declared(cls)}
        missing = {known.attribute: made(known.missing) for known in declared(cls) if values[known.attribute] is None}
        return cls(**values | missing)


Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True)
class Declared:
    """A field of a kind, and how lines have it."""

    attribute: str
    key: str  # the attribute's name, without the underscore that keeps it apart from a word of Python's
    meaning: str
    missing: Any
    is_optional: bool


DECLARED: dict[type, tuple[Declared, ...]] = {}  # of the kinds read so far: thousands of lines are of few kinds


def declared(kind: type[Event]) -> tuple[Declared, ...]:
    """Return a kind's fields in the order they are written in."""
    if kind not in DECLARED:
        DECLARED[kind] = tuple(Declared(found.name, found.name.rstrip("_"), **found.metadata) for found in fields(kind))
    return DECLARED[kind]


def made(missing: Any) -> Any:
    """Return a value that stands for one that is not there."""
    return missing() if callable(missing) else missing


def kinds_by_name(kinds: Iterable[type[Kind]]) -> dict[str, type[Kind]]:
    """Return what lines call a kind -> the kind."""
    return {kind.kind: kind for kind in kinds}


def of_kind(events: Iterable[Event], kind: type[Kind]) -> list[Kind]:
    """Return the events of one kind, in their order."""
    return [event for event in events if isinstance(event, kind)]


def meanings(kind: type[Event]) -> list[tuple[str, str, bool]]:
    """Return key and meaning of a kind's fields, and whether a line may be without it: what docs/journal.md is made of."""
    return [(known.key, known.meaning, known.is_optional) for known in declared(kind)]
