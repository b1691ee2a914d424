"""Making a run folder, or recognising the one that is there. No torch."""

import difflib
import os
import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime

from codemix_megatron.cores import available_cores
from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.plan.plan import Plan
from codemix_megatron.recipe.reading import read_recipe, write_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import read_json, replace_text, write_json
from codemix_megatron.records.provenance import git_state, installed_versions
from codemix_megatron.records.run_folder import RunFolder, is_run_folder

__all__ = ["check_run", "now", "open_run"]

# What a start that was cut off may have left in a folder before it became a run.
BEFORE_A_RUN = {
    "environment.json",
    "initial",
    ".initial.partial",
    "tokenizer",
    ".tokenizer.partial",
    "plan.json",
    "launch",
    "logs",
    "stop",
    ".lease",
    ".lock",  # of earlier versions
    ".environment.json.partial",
    ".plan.json.partial",
    ".recipe.yaml.partial",
}


def check_run(run: RunFolder, recipe: Recipe, plan: Plan) -> bool:
    """Return True when `run` is there and may be resumed with this recipe, False when it is new.

    Raises RecipeError with a diff when anything that decides the result differs: layout, saving,
    evaluation and observers may change between starts, the rest may not.
    """
    if not is_run_folder(run):
        if run.path.exists() and not run.path.is_dir():
            raise CodemixError(f"{run}: is a file; give an empty or new --folder")
        strangers = {p.name for p in run.path.iterdir()} - BEFORE_A_RUN if run.path.exists() else set()
        if strangers:
            raise CodemixError(
                f"{run}: there and not a run folder (it holds {', '.join(sorted(strangers)[:3])}); give an empty or new --folder"
            )
        return False
    before = read_recipe(run.recipe)
    old, new = (write_recipe(deciding_part(r)).splitlines() for r in (before, recipe))
    if old != new:
        changes = [
            line for line in difflib.unified_diff(old, new, "run", "recipe", lineterm="", n=1) if not line.startswith(("---", "+++"))
        ]
        listed = "\n".join(f"  {line}" for line in changes)
        raise RecipeError(f"{run}: was started from another recipe; use the old one, or another --folder\n{listed}")
    check_corpora(run, plan)
    return True


def deciding_part(recipe: Recipe) -> Recipe:
    """Return the recipe without the blocks that may change between two starts of a run."""
    plain = Recipe(name="", model=recipe.model, batch=recipe.batch, tokenizer=recipe.tokenizer, corpora={}, phases=())
    # Held-out documents are fixed in the corpus files, which check_corpora compares.
    batch = replace(recipe.batch, micro_sequences=1)
    free = {name: getattr(plain, name) for name in ("checkpoint", "faults", "evaluation", "observers")}
    # Megatron keeps the state of both optimizers under other names, and loads neither as the other.
    parallel = replace(plain.parallel, distributed_optimizer=recipe.parallel.distributed_optimizer)
    return replace(recipe, batch=batch, parallel=parallel, **free)


def check_corpora(run: RunFolder, plan: Plan) -> None:
    """Raise RecipeError when a corpus was prepared again with other contents since the run began."""
    try:
        planned = read_json(run.plan)["sources"]
    except (OSError, ValueError, KeyError):
        return
    changed = [name for name, source in plan.sources.items() if planned.get(name, {}).get("bin_sha256") != source["bin_sha256"]]
    if changed:
        raise RecipeError(f"{run}: corpora {', '.join(changed)} have changed since it began (checksums differ); use another --folder")


def open_run(run: RunFolder, recipe: Recipe, plan: Plan, num_ranks: int, device: str) -> None:
    """Write recipe, plan and (once) environment into the run folder, after checking what is there."""
    resumed = check_run(run, recipe, plan)
    if not resumed:
        write_json(run.environment, describe_environment(num_ranks, device))
    write_json(run.plan, plan.as_json())
    replace_text(run.recipe, write_recipe(recipe))  # last: with it, the folder is a run


def describe_environment(num_ranks: int, device: str) -> dict:
    """Return versions, command, git state and machine."""
    return {
        "versions": installed_versions(),
        "command": sys.argv,
        "git": git_state(),
        "machine": {
            "cores": available_cores(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "device": device,
            "platform": platform.platform(),
        },
        "started_at": now(),
        "ranks": num_ranks,
    }


def now() -> str:
    """Return the moment in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
