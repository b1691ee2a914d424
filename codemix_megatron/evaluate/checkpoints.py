"""Which checkpoint of a run is scored."""

from pathlib import Path

from codemix_megatron.checkpoint.loading import list_checkpoints
from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.run_folder import RunFolder, step_of

__all__ = ["newest_checkpoint"]


def newest_checkpoint(run: RunFolder, step: int | None) -> Path:
    """Return the checkpoint of a step, or the newest; raises EvaluationError naming those there are."""
    there = list_checkpoints(run.checkpoints)
    chosen = there[-1:] if step is None else [p for p in there if step_of(p) == step]
    if not chosen:
        steps = ", ".join(str(step_of(p)) for p in there) or "none"
        raise EvaluationError(f"{run}: no checkpoint{'' if step is None else f' of step {step}'} to score; there are steps {steps}")
    return chosen[0]
