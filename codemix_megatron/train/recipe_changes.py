"""What a run's recipe may still change: everything that decides no step taken so far. No torch.

Layout, saving, evaluation, observers and where files lie may always change. Phases that have not begun may be changed, lengthened,
removed and appended, with corpora that were not read yet. The rest is fixed by the steps that were taken under it.
"""

import difflib
from dataclasses import replace
from pathlib import PurePath

import yaml

from codemix_megatron.plan.branch import sequences_at
from codemix_megatron.recipe.schema import Recipe, as_plain

__all__ = ["begun_phases", "describe_changes", "find_changes", "fixed_part", "proposed_branch"]


def begun_phases(plan: dict, step: int) -> int:
    """Return how many phases of a plan (as plan.json holds it) have begun at `step`, the newest there is a checkpoint of; the first has."""
    return max(1, sum(phase["first_step"] <= step for phase in plan["phases"]))


def fixed_part(recipe: Recipe, plan: dict, num_begun: int) -> dict:
    """Return what of a recipe has decided the steps of the first `num_begun` phases of `plan`, as plain values.

    Corpora are known by their contents, which check_corpora compares, not by their paths; so is the tokenizer.
    """
    read = {name for phase in plan["phases"][:num_begun] for name, source in phase["sources"].items() if source["sequences"]}
    return as_plain(
        {
            "name": recipe.name,
            "seed": recipe.seed,
            "initial_weights": name_of_weights(recipe.initial_weights) if recipe.initial_weights else None,
            "branch": {"run": PurePath(recipe.branch.run).name, "step": recipe.branch.step} if recipe.branch else None,
            "model": recipe.model,
            # Megatron keeps the state of both optimizers under other names, and loads neither as the other.
            "parallel": {"distributed_optimizer": recipe.parallel.distributed_optimizer},
            "batch": {"global_sequences": begun_sizes(recipe, plan, num_begun)},
            "optimizer": recipe.optimizer,
            "tokenizer": {"end_of_document": recipe.tokenizer.end_of_document},
            # Their order counts: it is that of the leaves of the tree that interleaves them.
            "corpora": {n: {"fill_in_the_middle": spec.fill_in_the_middle} for n, spec in recipe.corpora.items() if n in read},
            "sources": {n: spec for n, spec in recipe.sources.items() if n in read},
            "sequences": recipe.sequences,
            "phases": recipe.phases[:num_begun],
        }
    )


def name_of_weights(path: str) -> str:
    """Return what weights are called wherever they lie: a folder by its name, a checkpoint by that of its run too."""
    parts = PurePath(path).parts
    return "/".join(parts[-3:] if parts[-2:-1] == ("checkpoints",) else parts[-1:])


def begun_sizes(recipe: Recipe, plan: dict, num_begun: int) -> list[list[int]]:
    """Return the sizes of global batches that hold before the end of the phases that have begun."""
    begun = plan["phases"][num_begun - 1]
    end = sequences_at(plan, begun["first_step"] + begun["steps"] - 1) * plan["sequence_length"]
    return [[tokens, size] for tokens, size in recipe.batch.stages if tokens < end]


def find_changes(before: Recipe, after: Recipe, plan: dict, num_begun: int) -> list[str]:
    """Return the lines of a diff of what is fixed; nothing when `after` may go on with what `before` began by `plan`."""
    return describe_changes(*(fixed_part(recipe, plan, num_begun) for recipe in (before, after)))


def describe_changes(before: dict, after: dict) -> list[str]:
    """Return a unified diff of two plain recipes as YAML, without its head."""
    old, new = (yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).splitlines() for plain in (before, after))
    diff = difflib.unified_diff(old, new, "run", "recipe", lineterm="", n=1)
    return [line for line in diff if not line.startswith(("---", "+++"))]


def proposed_branch(run: str, before: Recipe, after: Recipe, plan: dict, num_begun: int) -> str | None:
    """Return the YAML of a branch that trains the phases of `after` from the first changed one on, or None where no branch can.

    The end of every phase is kept, so one may branch off before any phase but the first.
    """
    changed = next((i for i in range(num_begun) if before.phases[i : i + 1] != after.phases[i : i + 1]), None)
    alike = replace(after, phases=before.phases)
    if not changed or find_changes(before, alike, plan, num_begun):
        return None
    phases = after.phases[changed:]
    if not phases:
        return None
    end = plan["phases"][changed]["first_step"] - 1
    plain = {"name": f"{before.name}-from-{end}", "branch": {"run": run, "step": end}, "phases": as_plain(phases)}
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
