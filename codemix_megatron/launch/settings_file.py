"""A YAML file of one block, as sites, clusters and machines are described: read with all its faults at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.fault_lines import Faults
from codemix_megatron.recipe.reading_blocks import read_block
from codemix_megatron.recipe.yaml_text import parse_yaml

__all__ = ["read_settings"]

Block = TypeVar("Block")


def read_settings(block: type[Block], path, find_faults: Callable[[Block], list[str]], advice: str = "") -> Block:
    """Return the block a file holds; `find_faults` looks at values that have the right type, `advice` follows where it cannot be read.

    Raises RecipeError with all faults.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise RecipeError(f"cannot be read ({getattr(fault, 'strerror', None) or fault}){advice}", where=str(path)) from None
    faults = Faults()
    read = read_block(block, parse_yaml(text, where=str(path)), "", faults)
    if read is not None:
        faults += find_faults(read)
    if faults:
        raise RecipeError(faults, where=str(path))
    return read
