"""What a run is in a study: which of the paper's variants, a point of a sweep, a kind of code, a cooldown of another run, a seed."""

from dataclasses import replace
from pathlib import Path

from codemix_megatron.recipe.reading import write_recipe
from codemix_megatron.report.consumption import tokens_by_kind
from codemix_megatron.report.run_data import RunData

__all__ = ["code_share", "paper_variant", "parent_of", "quality_runs", "seed_groups", "sweep_runs"]

VARIANTS = {"text-only": "text-only", "balanced-only": "balanced-only", "balanced-to-text": "balanced→text", "code-to-text": "code→text"}
COOLDOWN_STAGE = "cooldown, +40B"


def code_share(run: RunData) -> float | None:
    """Return the share of tokens that was not text."""
    tokens = tokens_by_kind(run)
    total = sum(tokens.values())
    return 1 - tokens.get("text", 0) / total if total else None


def paper_variant(run: RunData, paper: dict) -> dict | None:
    """Return the paper's row for a run that is named after a variant: after cooldown where the run ends in one."""
    name = run.name.lower().replace("_", "-")
    variant = next((told for key, told in VARIANTS.items() if name == key or name.startswith(f"{key}-")), None)
    rows = [row for row in paper["variants"] if row["variant"] == variant]
    if not rows:
        return None
    cooled = bool(run.phase_names) and "cooldown" in run.phase_names[-1].lower()
    return next((row for row in reversed(rows) if (row["stage"] == COOLDOWN_STAGE) == cooled), None)


def sweep_runs(runs: list[RunData]) -> list[RunData]:
    """Return runs of one phase from scratch that differ in their share of code, by that share; fewer than three are no sweep."""
    single = [run for run in runs if len(run.phase_names) == 1 and parent_path(run) is None and code_share(run) is not None]
    single = [run for run in single if not run.name.lower().startswith("quality")]
    shares = {round(code_share(run), 3): run for run in reversed(single)}
    return [shares[share] for share in sorted(shares)] if len(shares) > 2 else []


def quality_runs(runs: list[RunData]) -> list[RunData]:
    """Return runs on code alone that differ in what the code is; fewer than two are nothing to compare."""
    found = [run for run in runs if (share := code_share(run)) is not None and share > 0.999]
    mixtures = {tuple(sorted(kind for kind, tokens in tokens_by_kind(run).items() if tokens)) for run in found}
    return found if len(mixtures) > 1 else []


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


def seed_groups(runs: list[RunData]) -> list[list[RunData]]:
    """Return groups of at least two runs whose recipes differ in seed and name alone."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        if run.recipe:
            groups.setdefault(write_recipe(replace(run.recipe, seed=0, name="")), []).append(run)
    return [group for group in groups.values() if len({run.recipe.seed for run in group}) > 1]
