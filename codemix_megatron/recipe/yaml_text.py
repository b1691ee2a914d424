"""YAML text and overrides of the command line -> plain dicts; what YAML would read otherwise than it looks is refused."""

import re
from typing import Any

import yaml

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.fault_lines import kind_of

__all__ = ["apply_overrides", "parse_yaml", "set_at"]

OCTAL = re.compile(r"[-+]?0[0-9_]+")


def parse_yaml(text: str, *, where: str) -> dict:
    """Return the mapping a YAML text holds; duplicate keys and syntax faults raise RecipeError with the line."""
    try:
        plain = yaml.load(text, Loader=StrictLoader)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        position = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(f"{position}{fault.problem or fault}", where=where) from None
    except (yaml.YAMLError, ValueError) as fault:  # ValueError: a number of thousands of digits, a date that is none
        raise RecipeError(f"is not YAML: {fault}", where=where) from None
    if not isinstance(plain, dict):
        raise RecipeError(f"holds {kind_of(plain)}, not a mapping of keys", where=where)
    return plain


class StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, and numbers that YAML 1.1 takes for others than they look: 010 is 8 to it, 1:30 is 90."""

    def construct_scalar(self, node):
        """Return the text of a value; raises for a number to the base of 8 or 60."""
        number = node.tag.rpartition(":")[2] in ("int", "float")
        if number and (":" in node.value or OCTAL.fullmatch(node.value)):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value}: YAML would read another number; write it without a colon and leading zeros", node.start_mark
            )
        return super().construct_scalar(node)

    def construct_mapping(self, node, deep=False):
        """Build a mapping, refusing duplicate keys (YAML itself keeps the last, silently)."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def apply_overrides(plain: dict, overrides, *, where: str = "override") -> dict:
    """Return the mapping with `a.b=c` and `phases.1.tokens=2M` set; values are read as YAML."""
    faults = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            faults.append(f"override {override!r} is not of the form key.key=value")
            continue
        try:
            set_at(plain, path.split("."), yaml.load(text, Loader=StrictLoader))
        except (KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as fault:
            faults.append(f"override {override!r}: {getattr(fault, 'problem', None) or (fault.args[0] if fault.args else fault)}")
    if faults:
        raise RecipeError(faults, where=where)
    return plain


def set_at(node: Any, keys: list[str], value) -> None:
    """Set one value in nested dicts and lists; missing mappings are made."""
    for word, after in zip(keys, [*keys[1:], None], strict=True):
        key: Any = word
        if isinstance(node, list):
            if not word.isdigit() or int(word) >= len(node):
                raise IndexError(f"{word!r} is not an index; there are {len(node)} entries, from 0")
            key = int(word)
        elif not isinstance(node, dict):
            raise TypeError(f"{key!r} cannot be set inside {kind_of(node)}")
        if after is None:
            node[key] = value
        else:
            node = node[key] if isinstance(node, list) else node.setdefault(key, {})
