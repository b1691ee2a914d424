"""The recipe a run keeps of itself, also where the project it belongs to has been moved since."""

import os
from dataclasses import replace
from pathlib import Path

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.pretrained import PREFIX
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.recipe.yaml_text import apply_overrides, parse_yaml
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["read_run_recipe"]


def read_run_recipe(run: RunFolder, overrides=()) -> Recipe:
    """Return the recipe in a run folder; paths that are gone are looked for where the folder is now.

    recipe.yaml holds absolute paths, plan.json the folder's own when they were written. A path that lay beside the run then is taken
    from beside it now, when it is no longer where it was and is there.
    """
    try:
        text = run.recipe.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise RecipeError(
            f"cannot be read ({getattr(fault, 'strerror', None) or fault}); give a run folder", where=str(run.recipe)
        ) from None
    plain = apply_overrides(parse_yaml(text, where=str(run.recipe)), overrides, where=str(run.recipe))
    return moved(build_recipe(plain, directory=run.path, where=str(run.recipe), is_whole=True), run)


def moved(recipe: Recipe, run: RunFolder) -> Recipe:
    """Return the recipe with paths that moved together with the run folder."""
    old = folder_when_written(run)
    if old is None or old == run.path:
        return recipe

    def found(path: str, ending: str = "") -> str:
        if "://" in path or path.startswith(PREFIX) or os.path.exists(path + ending):
            return path
        candidate = os.path.normpath(run.path / os.path.relpath(path, old))
        return candidate if os.path.exists(candidate + ending) else path

    evaluation = replace(
        recipe.evaluation,
        tasks_directory=found(recipe.evaluation.tasks_directory) if recipe.evaluation.tasks_directory else None,
        data_directory=found(recipe.evaluation.data_directory) if recipe.evaluation.data_directory else None,
        suites=tuple(found(suite) if os.path.isabs(suite) else suite for suite in recipe.evaluation.suites),
    )
    return replace(
        recipe,
        corpora={name: replace(spec, prefix=found(str(spec.prefix), ".manifest.json")) for name, spec in recipe.corpora.items()},
        evaluation=evaluation,
        tokenizer=replace(recipe.tokenizer, path=found(recipe.tokenizer.path)),
        initial_weights=found(recipe.initial_weights) if recipe.initial_weights else None,
        branch=replace(recipe.branch, run=found(recipe.branch.run)) if recipe.branch else None,
    )


def folder_when_written(run: RunFolder) -> Path | None:
    """Return where the run folder was when its recipe was written; None where that is not known."""
    try:
        return Path(read_json(run.plan)["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
