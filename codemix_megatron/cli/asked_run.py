"""Which run a command means: that of a recipe, or one that is named itself."""

from pathlib import Path

from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.run_folder import RunFolder, is_run_folder

__all__ = ["asked_run"]


def asked_run(arguments) -> tuple[Recipe, RunFolder]:
    """Return the recipe and the run folder: of a run that is named itself, or by the recipe in it, else of a recipe of the user's own."""
    path = Path(arguments.recipe)
    named = RunFolder(path if path.is_dir() else path.parent)
    if (path.is_dir() or path.name == named.recipe.name) and is_run_folder(named):
        return read_run_recipe(named, arguments.overrides), RunFolder(arguments.folder or named.path)
    if path.is_dir():
        named = RunFolder.existing(path)  # raises, and says what is missing
    recipe = read_recipe(path, arguments.overrides)
    return recipe, RunFolder(arguments.folder) if arguments.folder else default_folder(path, recipe.name)


def default_folder(recipe: Path, name: str) -> RunFolder:
    """Return runs/NAME beside the recipe, so that it is the same wherever the command is given; one begun in this folder is resumed."""
    here = RunFolder(Path("runs") / name)
    return here if is_run_folder(here) else RunFolder(recipe.resolve().parent / "runs" / name)
