"""Making a run folder, or recognising the one that is there. No torch."""

import os
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from codemix_megatron.checkpoint.loading import list_checkpoints
from codemix_megatron.cores import available_cores
from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.plan.branch import other_data_order
from codemix_megatron.plan.buckets import same_buckets
from codemix_megatron.plan.plan import Plan
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.reading import write_recipe
from codemix_megatron.recipe.schema import Recipe, as_plain
from codemix_megatron.records.atomic import read_json, replace_text, write_json
from codemix_megatron.records.events import EndEvent, ReopenedEvent, RunEvent
from codemix_megatron.records.journal import Journal, read_events
from codemix_megatron.records.provenance import git_state, installed_versions
from codemix_megatron.records.run_folder import RunFolder, is_run_folder, saved_step
from codemix_megatron.redaction import redact_words
from codemix_megatron.train.recipe_changes import begun_phases, describe_changes, find_changes, proposed_branch

__all__ = ["RecipeChange", "check_run", "is_finished", "now", "open_run", "reopen"]


@dataclass(frozen=True)
class RecipeChange:
    """From which step on another recipe holds than before, and the lines that differ."""

    step: int
    changed: list[str]


# What a start that was cut off may have left in a folder before it became a run.
BEFORE_A_RUN = {
    "corpora.json",
    "environment.json",
    "initial",
    "recipes",
    ".initial.partial",
    "tokenizer",
    ".tokenizer.partial",
    "plan.json",
    "launch",
    "logs",
    "stop",
    ".lease",
    ".lock",  # of earlier versions
    ".corpora.json.partial",
    ".environment.json.partial",
    ".plan.json.partial",
    ".recipe.yaml.partial",
}


def check_run(run: RunFolder, recipe: Recipe, plan: Plan) -> bool:
    """Return True when `run` is there and may be resumed with this recipe, False when it is new.

    Raises RecipeError with a diff when anything differs that has decided a step taken so far: layout, saving,
    evaluation, observers, paths and phases that have not begun may change between starts, the rest may not.
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
    before, planned = read_run_recipe(run), read_json(run.plan)
    if fault := other_data_order(planned):
        raise RecipeError(f"{run}: {fault}; go on with the version of this package that began it, or begin in another --folder")
    num_begun = begun_phases(planned, resumed_step(run, planned))
    if changes := find_changes(before, recipe, planned, num_begun):
        refuse_changes(run, before, recipe, planned, num_begun, changes)
    check_corpora(run, plan, planned, num_begun)
    return True


def resumed_step(run: RunFolder, planned: dict) -> int:
    """Return the newest step of a run that is saved, or the one it began at."""
    return max((saved_step(path) for path in list_checkpoints(run.checkpoints)), default=planned["phases"][0]["first_step"] - 1)


def refuse_changes(run: RunFolder, before: Recipe, recipe: Recipe, planned: dict, num_begun: int, changes: list[str]) -> None:
    """Raise RecipeError with the diff of what cannot change any more and, where there is one, the branch that can."""
    names = ", ".join(phase["name"] for phase in planned["phases"][:num_begun])
    listed = "\n".join(f"  {line}" for line in changes)
    branch = proposed_branch(str(run), before, recipe, planned, num_begun)
    way_out = (
        f"\nThis recipe trains the changed phases as a branch, with codemix train:\n\n{branch}"
        if branch
        else "\nWhat has not begun may change. To go on from one of its checkpoints otherwise, see `branch` in docs/recipe.md"
    )
    raise RecipeError(
        f"{run}: was started from another recipe, and what its phases so far ({names}) were trained with cannot change;"
        f" use the old one, or another --folder\n{listed}{way_out}"
    )


def check_corpora(run: RunFolder, plan: Plan, planned: dict, num_begun: int) -> None:
    """Raise RecipeError when a corpus that was read was prepared again with other contents since the run began."""
    read = {name for phase in planned["phases"][:num_begun] for name, source in phase["sources"].items() if source["sequences"]}
    sources, files = planned["sources"], ("bin_sha256", "loss_mask_sha256")
    changed = [n for n in plan.sources if n in read and any(sources[n].get(f) != plan.sources[n].get(f) for f in files)]
    changed += [n for n in plan.sources if n in read and not same_buckets(plan.sources[n].get("buckets"), sources[n].get("buckets"))]
    if changed:
        raise RecipeError(
            f"{run}: corpora {', '.join(dict.fromkeys(changed))} have changed since it began (checksums or buckets differ); use another --folder"
        )


def open_run(run: RunFolder, recipe: Recipe, plan: Plan, num_ranks: int, device: str) -> RecipeChange | None:
    """Write recipe, plan and (once) environment into the run folder, after checking what is there.

    Returns what changed of the recipe, or None.
    """
    resumed = check_run(run, recipe, plan)
    change = recipe_change(run, recipe) if resumed else None
    if not resumed:
        write_json(run.environment, describe_environment(num_ranks, device))
    write_json(run.plan, {**plan.as_json(), "folder": str(run)})
    text = write_recipe(recipe)
    if change or not run.recipes.is_dir():
        replace_text(run.recipes / f"from-step-{change.step if change else plan.first_step}.yaml", text)
    replace_text(run.recipe, text)  # last: with it, the folder is a run
    return change


def recipe_change(run: RunFolder, recipe: Recipe) -> RecipeChange | None:
    """Return from which step on a recipe other than the run's last one holds, and what differs; None when nothing does."""
    changes = describe_changes(as_plain(read_run_recipe(run)), as_plain(recipe))
    return RecipeChange(resumed_step(run, read_json(run.plan)), changes) if changes else None


def is_finished(run: RunFolder, plan: Plan) -> bool:
    """Say whether a run has come to the end of its plan; one that ended before phases were appended has not."""
    last = last_event(run)
    return isinstance(last, EndEvent) and last.step >= plan.steps


def reopen(run: RunFolder) -> None:
    """Record in the journal of a run that had ended that it is resumed."""
    last = last_event(run)
    if isinstance(last, EndEvent):
        journal = Journal(run.journal)
        journal.append(ReopenedEvent(step=last.step))
        journal.close()


def last_event(run: RunFolder) -> RunEvent | None:
    """Return the last event of a run's journal, None where it is empty."""
    return next(reversed(read_events(run.journal)), None)


def describe_environment(num_ranks: int, device: str) -> dict:
    """Return versions, command, git state and machine."""
    return {
        "versions": installed_versions(),
        "command": redact_words(sys.argv),
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
