"""Writes the keys of a recipe into docs/recipe.md from the dataclasses: `python docs/write_recipe_keys.py`. A test compares the page with them."""

import re
from pathlib import Path

from codemix_megatron.recipe.keys import Block, recipe_blocks

PAGE = Path(__file__).with_name("recipe.md")
BEGIN = "<!-- Written by docs/write_recipe_keys.py from codemix_megatron/recipe/. -->\n"
END = "<!-- The end of what it writes. -->\n"


def text() -> str:
    """Return the page with the keys as they are now."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "\n" + "\n".join(map(section, recipe_blocks())) + "\n" + END + after


def section(block: Block) -> str:
    """Return the table of a block."""
    rows = [f"| `{key.name}` | {code(key.default)} | {cell(key.value)} | {cell(key.meaning)} |" for key in block.keys]
    heading = f"### `{block.path}`\n\n" if block.path else ""
    return "\n".join([f"{heading}{cell(block.about)}", "", "| key | default | value | meaning |", "|---|---|---|---|", *rows, ""])


def code(default: str) -> str:
    """Return a default as it is typed; `needed` is a word about it."""
    return default if default in ("", "needed") else f"`{default}`"


def cell(meaning: str) -> str:
    """Return words so that Markdown takes no part of them for a column or for HTML, what stands between backticks aside."""
    parts = re.split(r"(`[^`]*`)", meaning)
    return "".join(part if part.startswith("`") else part.replace("|", "\\|").replace("<", "&lt;") for part in parts)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
