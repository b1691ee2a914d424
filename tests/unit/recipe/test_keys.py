"""The list of a recipe's keys, which `codemix doctor --recipe-keys` prints and docs/recipe.md shows, leaves none out."""

import importlib
import importlib.util
import pkgutil
from dataclasses import fields, is_dataclass

from tiny_run import REPOSITORY

from codemix_megatron import recipe
from codemix_megatron.recipe.keys import recipe_blocks


def declared() -> set[tuple[str, str]]:
    """Return (meaning, key) of every option that any module of the subpackage declares."""
    found = set()
    for module in pkgutil.iter_modules(recipe.__path__):
        for kind in vars(importlib.import_module(f"codemix_megatron.recipe.{module.name}")).values():
            if isinstance(kind, type) and is_dataclass(kind):
                found |= {(field.metadata["help"], field.name) for field in fields(kind) if "help" in field.metadata}
    return found


def test_every_option_of_every_block_is_in_the_list():
    listed = {(key.meaning, key.name) for block in recipe_blocks() for key in block.keys}
    assert listed == declared() and len(listed) > 150


def test_keys_say_where_they_stand_what_they_may_be_and_what_they_are_by_default():
    found = {(block.path, key.name): key for block in recipe_blocks() for key in block.keys}
    assert found["phases.N.learning_rate", "schedule"].value == "constant or linear or cosine or wsd"
    assert found["corpora.NAME.filters.near_duplicates", "similarity"].default == "0.7"
    assert found["model.rope_scaling", "long_factors"].value == "list: number"
    assert found["phases.N", "tokens"].default == "needed" and "1.5M" in found["phases.N", "tokens"].value
    assert found["optimizer", "betas"].default == "[0.9, 0.95]" and found["parallel", "distributed_optimizer"].default == "true"
    assert found["corpora.NAME", "filters"].value == "block" and found["sources.NAME", "unscored"].default == ""


def test_the_page_of_the_recipe_shows_the_keys_as_they_are():
    spec = importlib.util.spec_from_file_location("write_recipe_keys", REPOSITORY / "docs" / "write_recipe_keys.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.text(), "run python docs/write_recipe_keys.py"
