"""YAML and overrides -> Recipe, with every fault reported at once."""

from pathlib import Path

import yaml

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.absolute_paths import resolve_paths
from codemix_megatron.recipe.checks import find_faults
from codemix_megatron.recipe.fault_lines import Faults
from codemix_megatron.recipe.inheriting import inherit_from_parent
from codemix_megatron.recipe.pretrained import take_over_pretrained
from codemix_megatron.recipe.published import with_published
from codemix_megatron.recipe.reading_blocks import read_block
from codemix_megatron.recipe.schema import Recipe, as_plain
from codemix_megatron.recipe.shapes import SHAPES
from codemix_megatron.recipe.yaml_text import apply_overrides, parse_yaml

__all__ = ["build_recipe", "read_recipe", "write_recipe"]


def read_recipe(path, overrides=()) -> Recipe:
    """Read a YAML recipe, apply `a.b=c` overrides, resolve paths beside the file and check everything.

    Raises RecipeError with all faults at once.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise RecipeError(
            f"cannot be read ({getattr(fault, 'strerror', None) or fault}); give the path of a YAML recipe", where=str(path)
        ) from None
    plain = apply_overrides(parse_yaml(text, where=str(path)), overrides, where=str(path))
    return build_recipe(plain, directory=path.resolve().parent, where=str(path))


def build_recipe(plain: dict, *, directory, where: str = "recipe", is_whole: bool = False) -> Recipe:
    """Turn plain dicts into a Recipe; relative paths are taken from `directory`.

    What it leaves out is taken from its parent or the public model it starts from, unless it `is_whole`, as those in run folders are.
    """
    faults = Faults()
    if not is_whole:
        plain = with_published(with_shape(plain, faults), faults)
        plain = inherit_from_parent(plain, Path(directory), faults)
        plain = take_over_pretrained(plain, Path(directory), faults)
    recipe = read_block(Recipe, plain, "", faults)
    if recipe is not None:
        recipe = resolve_paths(recipe, Path(directory))
        faults += find_faults(recipe)
    if faults:
        raise RecipeError(faults, where=where)
    return recipe


def with_shape(plain: dict, faults: Faults) -> dict:
    """Return the recipe with `model.shape`, a name, replaced by the keys it stands for; keys beside it win."""
    model = plain.get("model") if isinstance(plain, dict) else None
    if not isinstance(model, dict) or "shape" not in model:
        return plain
    name = model["shape"]
    if name not in SHAPES:
        faults.append(f"model.shape: found {name!r}, allowed are {', '.join(SHAPES)}")
    others = {key: value for key, value in model.items() if key != "shape"}
    return {**plain, "model": {**SHAPES.get(name, {}), **others}}


def write_recipe(recipe: Recipe) -> str:
    """Return the YAML text of a resolved recipe; reading it again gives the same recipe."""
    return yaml.safe_dump(as_plain(recipe), sort_keys=False, allow_unicode=True)
