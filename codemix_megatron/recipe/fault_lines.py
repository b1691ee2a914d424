"""Faults of a recipe as lines of text: where, what was found, what was meant."""

import difflib

__all__ = ["Faults", "join", "kind_of", "names_of", "nearest"]


class Faults(list):
    """Lines about a recipe; `harmless` counts those that do not keep a block from being built."""

    harmless = 0

    @property
    def blocking(self) -> int:
        """Faults that leave a value unknown."""
        return len(self) - self.harmless


def join(path: str, key) -> str:
    """Return the dotted path of a key."""
    return f"{path}.{key}" if path else str(key)


def nearest(word, allowed) -> str:
    """Return `; did you mean X?` for a near miss, else what is allowed."""
    close = difflib.get_close_matches(str(word), [str(a) for a in allowed], n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; allowed are {', '.join(map(str, allowed))}"


def names_of(hint) -> str:
    """Name a scalar type as a person would."""
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[hint]


def kind_of(value) -> str:
    """Describe a value for an error message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return repr(value)
