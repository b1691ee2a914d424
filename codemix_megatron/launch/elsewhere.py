"""Training jobs for what is not Slurm: rendered, to be read and submitted by hand, and never submitted from here."""

from pathlib import Path
from typing import Any

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.kubernetes.cluster import Cluster, read_cluster
from codemix_megatron.launch.kubernetes.manifest import render_manifest
from codemix_megatron.launch.skypilot.task import Machines, read_machines, render_task
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["read_destination", "render_elsewhere"]


def read_destination(kind: str, path: str) -> Cluster | Machines:
    """Read the file that describes where a job is to run."""
    return read_cluster(path) if kind == "kubernetes" else read_machines(path)


def render_elsewhere(
    destination: Cluster | Machines, recipe: Recipe, recipe_path: Path, run: RunFolder, num_nodes: int, overrides: list[str]
) -> dict[str, Any]:
    """Return a manifest or a task file; raises LaunchError for overrides, which a file that others read does not show."""
    if overrides:
        raise LaunchError(f"{overrides[0]}: write it into the recipe; what starts elsewhere reads the file alone", exit_code=2)
    if isinstance(destination, Machines):
        return render_task(recipe_path, run.path, run.path.name, num_nodes, destination)
    read = [recipe_path, Path(recipe.tokenizer.path), *(Path(recipe.prefix(name)) for name in recipe.corpora)]
    return render_manifest(recipe_path, run.path, run.path.name, num_nodes, destination, [*(path.absolute() for path in read), run.path])
