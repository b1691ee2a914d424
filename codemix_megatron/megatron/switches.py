"""Which changes to megatron-core are left out here: CODEMIX_WITHOUT names them, to see what each of them does."""

import os

from codemix_megatron.errors import LaunchError
from codemix_megatron.megatron.changes import EVERY_CHANGE

__all__ = ["LEFT_OUT", "is_left_out", "left_out"]

LEFT_OUT = "CODEMIX_WITHOUT"  # environment: names with commas between


def is_left_out(name: str) -> bool:
    """Say whether a change, or one that it cannot do without, is to be left out."""
    needs = {change.name: change.needs for change in EVERY_CHANGE}
    return name in left_out() or (needs[name] != "" and is_left_out(needs[name]))


def left_out() -> set[str]:
    """Return the names in CODEMIX_WITHOUT. Raises LaunchError for one that no change has."""
    names = {name.strip() for name in os.environ.get(LEFT_OUT, "").split(",")} - {""}
    known = [change.name for change in EVERY_CHANGE]
    if unknown := sorted(names.difference(known)):
        raise LaunchError(f"{LEFT_OUT}: there is no change called {', '.join(unknown)}; there are {', '.join(known)}", exit_code=2)
    return names
