"""A Megatron checkpoint scored on the ranks it is spread over."""

from dataclasses import replace
from pathlib import Path

from codemix_megatron.checkpoint.loading import find_fault
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.checkpoints import newest_checkpoint
from codemix_megatron.evaluate.scoring import evaluate_subject, read_corpora
from codemix_megatron.evaluate.wanted import Subject, Wanted, wanted_of
from codemix_megatron.inference.live import load_live
from codemix_megatron.inference.progress import Progress, silent
from codemix_megatron.parallel.ranks import join_ranks, leave_ranks, on_main
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.records.run_folder import RunFolder, saved_step
from codemix_megatron.records.scores import Scores

__all__ = ["evaluate_live"]


def evaluate_live(
    run: RunFolder, step: int | None, changes: dict, progress: Progress = silent, force: bool = False, wanted: Wanted | None = None
) -> Scores:
    """Score a checkpoint on the ranks of this process group and write RUN/scores/step-N.json. Every rank calls this.

    `changes` are overrides of the recipe's parallel block: a checkpoint loads at any layout.
    """
    recipe = read_run_recipe(run)
    recipe = replace(recipe, parallel=replace(recipe.parallel, **changes))
    checkpoint = newest_checkpoint(run, step)
    ranks = join_ranks(recipe.parallel, recipe.seed)
    try:
        metadata, wanted = read_metadata(checkpoint), wanted or wanted_of(recipe)
        if fault := on_main(ranks, lambda: find_fault(checkpoint)):
            raise EvaluationError(f"{checkpoint}: {fault}; score another step with RUN@STEP")
        subject = Subject(
            name=str(checkpoint),
            digest=f"live {metadata['files']!r}",
            step=metadata["step"],
            tokens=metadata["tokens"],
            load=lambda: load_live(recipe, checkpoint, Path(metadata["tokenizer"]["path"]), ranks),
            corpora=read_corpora(recipe, wanted),
        )
        told = progress if ranks.is_main else silent
        return evaluate_subject(subject, wanted, run.scores, run.score_file(saved_step(checkpoint)), told, force, writes=ranks.is_main)
    finally:
        leave_ranks()
