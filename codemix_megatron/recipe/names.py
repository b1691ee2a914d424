"""Names that become parts of paths, of scripts and of pages: of recipes, corpora, phases, variants, suites and tasks."""

import re

__all__ = ["name_fault"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
LONGEST = 120  # a file's name has at most 255 bytes, and others are put around it


def name_fault(name) -> str | None:
    """Say why a name cannot be part of a file's, or return None."""
    text = str(name)
    if len(text) > LONGEST:
        return f"the name {text[:20]!r}... has {len(text)} characters, allowed are {LONGEST}"
    if NAME.fullmatch(text):
        return None
    return f"the name {text!r} has to begin with a letter or digit; after it letters, digits, '.', '_', '+' and '-' are allowed"
