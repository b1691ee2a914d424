"""What a run is in a study: which of the paper's variants, and which run it started from."""

from pathlib import Path

from codemix_megatron.report.run_data import RunData

__all__ = ["paper_variant", "parent_of", "parent_path"]

VARIANTS = {"text-only": "text-only", "balanced-only": "balanced-only", "balanced-to-text": "balanced→text", "code-to-text": "code→text"}
COOLDOWN_STAGE = "cooldown, +40B"


def paper_variant(run: RunData, name: str, paper: dict) -> dict | None:
    """Return the paper's row for runs that are named after a variant: after cooldown where they end in one."""
    name = (run.variant or name).lower().replace("_", "-")
    is_named = (lambda key: name == key) if run.variant else (lambda key: name == key or name.startswith(f"{key}-"))
    variant = next((told for key, told in VARIANTS.items() if is_named(key)), None)
    rows = [row for row in paper["variants"] if row["variant"] == variant]
    if not rows:
        return None
    cooled = bool(run.phase_names) and "cooldown" in run.phase_names[-1].lower()
    return next((row for row in reversed(rows) if (row["stage"] == COOLDOWN_STAGE) == cooled), None)


def parent_path(run: RunData) -> Path | None:
    """Return the folder of the run or checkpoint another run starts from."""
    recipe = run.recipe
    branch = getattr(recipe, "branch", None) if recipe else None
    start = (branch.run if branch else None) or (recipe.initial_weights if recipe else None)
    return Path(start).absolute() if start else None


def parent_of(run: RunData, runs: list[RunData]) -> RunData | None:
    """Return the run among `runs` that this one starts from."""
    for folder in run.ancestors:
        if found := next((other for other in runs if other is not run and other.folder.path == folder and other.scores), None):
            return found
    path = parent_path(run)
    if path is None:
        return None
    return next((other for other in runs if other is not run and (path == other.folder.path or other.folder.path in path.parents)), None)
