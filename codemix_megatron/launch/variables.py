"""Environment variables as the files that describe a cluster hold them."""

import re
from collections.abc import Callable
from typing import Any

from codemix_megatron.recipe.fault_lines import Faults, kind_of
from codemix_megatron.redaction import names_secret, secret_in

__all__ = ["read_variables", "secret_variables", "texts_reader"]

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_variables(value, path: str, faults: Faults) -> dict[str, str] | None:
    """Read a mapping of environment variables; numbers become text, what YAML takes for true or false has to be quoted."""
    if not isinstance(value, dict):
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping such as {{NCCL_DEBUG: WARN}}")
        return None
    for name, text in value.items():
        if not VARIABLE.fullmatch(str(name)):
            faults.append(f"{path}.{name}: not the name of an environment variable; letters, digits and _ are allowed")
        if isinstance(text, bool) or not isinstance(text, (str, int, float)):
            faults.append(f"{path}.{name}: found {kind_of(text)}, needs text; quote it")
    return {str(name): str(text) for name, text in value.items()}


def texts_reader(needed: str) -> Callable[[Any, str, Faults], dict[str, str] | None]:
    """Return a reader of mappings from text to text; `needed` says which in the fault."""

    def read(value, path: str, faults: Faults) -> dict[str, str] | None:
        if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
            faults.append(f"{path}: needs {needed}")
            return None
        return dict(value)

    return read


def secret_variables(variables: dict[str, str]) -> list[str]:
    """Return the names of variables that hold secrets; paths and references to other variables are none."""
    return [name for name, value in variables.items() if (names_secret(name) and not value.startswith(("/", "$"))) or secret_in(value)]
