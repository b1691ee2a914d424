"""Checkpoints, its own or of other runs, that a run starts from. No torch: the launching process looks before any rank starts."""

from pathlib import Path

from codemix_megatron.checkpoint.loading import list_checkpoints, set_aside
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.errors import CheckpointError, CodemixError
from codemix_megatron.plan.branch import BranchPoint
from codemix_megatron.plan.plan import read_manifests
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.plan.tokenizer_agreement import refuse_other_ids
from codemix_megatron.recipe.pretrained import PREFIX
from codemix_megatron.recipe.schema import Model, Recipe, as_plain
from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import CheckpointEvent, RollbackEvent
from codemix_megatron.records.journal import cut_after, read_events
from codemix_megatron.records.run_folder import CHECKPOINT_METADATA, RunFolder, step_of

__all__ = ["check_start", "find_parent", "has_random_state", "initial_checkpoint", "rollbacks_until", "settle_start"]

# What a run may choose otherwise than the weights it starts from.
MAY_DIFFER = ("sequence_length", "init_std", "dropout", "precision", "fp8", "vocab_size", "vocab_padding_multiple")
# And what a branch may change whose sequences are longer than its parent's: how far positions reach, and the rotary frequencies for it.
LONGER = ("sequence_length", "rope_base", "rope_scaling")


def settle_start(run: RunFolder, checkpoint: Path | None, complaints: list[str]) -> None:
    """Set aside what is newer than the checkpoint to resume from; raises CheckpointError when all that the run has saved is lost."""
    saved = [event.step for event in of_kind(read_events(run.journal), CheckpointEvent)]
    if checkpoint is None and saved:
        lost = "".join(f"\n  {complaint}" for complaint in complaints)
        raise CheckpointError(
            f"{run}: journal.jsonl records checkpoints up to step {saved[-1]}, but no valid one remains in {run.checkpoints};"
            f" restore one, or start again in another --folder{lost}",
            exit_code=2,
        )
    set_aside(run.checkpoints, after=checkpoint)


def rollbacks_until(run: RunFolder, step: int) -> list[RollbackEvent]:
    """Cut the journal after `step` and return the rollbacks that remain in it."""
    cut_after(run.journal, step)
    return of_kind(read_events(run.journal), RollbackEvent)


def check_start(recipe: Recipe, branch: BranchPoint | None) -> None:
    """Raise CodemixError when the checkpoint that a new run starts from is not there or holds another model."""
    if branch:
        find_parent(recipe, branch)
    elif recipe.initial_weights and not recipe.initial_weights.startswith(PREFIX):
        initial_checkpoint(recipe, None)


def initial_checkpoint(recipe: Recipe, run: RunFolder | None) -> Path:
    """Return the checkpoint that `initial_weights` names: itself, or the newest of a run folder; its model must be the recipe's.

    A public model (hf:FOLDER) is converted into `run` first, unless that was done.
    """
    assert recipe.initial_weights is not None
    if recipe.initial_weights.startswith(PREFIX):
        from codemix_megatron.conversion.importing import import_initial  # torch: only where there is something to convert

        assert run is not None, "a public model is converted into a run folder"
        return import_initial(recipe, run)
    folder = RunFolder(recipe.initial_weights)
    found = list_checkpoints(folder.checkpoints) or ([folder.path] if (folder.path / CHECKPOINT_METADATA).is_file() else [])
    if not found:
        raise CodemixError(f"initial_weights: {folder} is neither a checkpoint nor a run folder that has one")
    # Padding rows may differ: Megatron loads around them.
    refuse_other_model(recipe, found[-1], "initial_weights", MAY_DIFFER)
    refuse_other_tokenizer(recipe, found[-1], "initial_weights")
    return found[-1]


def has_random_state(metadata: dict, layout: dict[str, int]) -> bool:
    """Say whether a checkpoint has a random state for each rank of this layout; on another one, streams start from their seeds."""
    there = metadata.get("layout", {})
    return metadata.get("random_state", False) and all(there.get(key) == layout[key] for key in ("tensor", "pipeline"))


def find_parent(recipe: Recipe, branch: BranchPoint) -> Path:
    """Return the checkpoint a branch continues from; raises CodemixError naming those that are there when it is not."""
    folder = RunFolder(recipe.branch.run if recipe.branch else branch.run)  # the plan has the path that was written down when it began
    there = [step_of(p) for p in list_checkpoints(folder.checkpoints)]
    if branch.step not in there:
        listed = ", ".join(map(str, there)) or "none"
        raise CodemixError(f"branch.step: {folder} has no checkpoint of step {branch.step}; there are steps {listed}")
    free = ("init_std", *LONGER) if branch.parent_length else ("init_std",)
    refuse_other_model(recipe, folder.checkpoint(branch.step), "branch", free)
    refuse_other_tokenizer(recipe, folder.checkpoint(branch.step), "branch")
    refuse_other_optimizer(recipe, folder)
    return folder.checkpoint(branch.step)


def refuse_other_optimizer(recipe: Recipe, parent: RunFolder) -> None:
    """Raise CodemixError when a parent's optimizer state has another form than the recipe's optimizer can load."""
    ours, theirs = recipe.parallel.distributed_optimizer, read_run_recipe(parent).parallel.distributed_optimizer
    if ours != theirs:
        raise CodemixError(
            f"branch.run: {parent} was trained with parallel.distributed_optimizer {str(theirs).lower()}, this recipe says {str(ours).lower()};"
            " set it as there"
        )


def refuse_other_tokenizer(recipe: Recipe, checkpoint: Path, key: str) -> None:
    """Raise CorpusError when the recipe's corpora were made with a tokenizer whose ids are other tokens to a checkpoint."""
    tokenizer = read_metadata(checkpoint).get("tokenizer")
    if tokenizer:
        for manifest in read_manifests(recipe).values():
            refuse_other_ids(manifest.tokenizer, recipe.tokenizer.path, tokenizer["sha256"], tokenizer["path"], key)


def refuse_other_model(recipe: Recipe, checkpoint: Path, key: str, free: tuple[str, ...]) -> None:
    """Raise CodemixError when a checkpoint holds another model than the recipe's; what is `free` may differ."""
    theirs, ours = as_plain(Model.from_plain(read_metadata(checkpoint)["model"])), as_plain(recipe.model)  # older ones lack newer keys
    different = [
        f"model.{name} {ours[name]} here, {theirs[name]} there" for name in ours if name not in free and ours[name] != theirs[name]
    ]
    if different:
        raise CodemixError(f"{key}: {checkpoint} holds another model: {'; '.join(different)}")
