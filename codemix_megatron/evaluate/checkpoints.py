"""Which checkpoint or export of a run is scored."""

from pathlib import Path

from codemix_megatron.checkpoint.loading import list_checkpoints
from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.run_folder import RunFolder, saved_step, step_of

__all__ = ["find_export", "newest_checkpoint"]


def newest_checkpoint(run: RunFolder, step: int | None) -> Path:
    """Return the checkpoint of a step, or the newest; raises EvaluationError naming those there are."""
    there = list_checkpoints(run.checkpoints)
    chosen = there[-1:] if step is None else [p for p in there if step_of(p) == step]
    if not chosen:
        steps = ", ".join(str(step_of(p)) for p in there) or "none"
        raise EvaluationError(f"{run}: no checkpoint{'' if step is None else f' of step {step}'} to score; there are steps {steps}")
    return chosen[0]


def find_export(run: RunFolder, step: int | None) -> Path:
    """Return the folder of a finished export, or raise EvaluationError naming those there are."""
    export = run.latest_export() if step is None else run.export(step)
    if export is None:
        raise EvaluationError(f"{run}: no export to score; run `codemix export {run}` first, or score the checkpoint itself with --live")
    if not (export / "export.json").is_file():
        steps = sorted(saved_step(record.parent) for record in run.exports.glob("step-*/export.json") if step_of(record.parent) is not None)
        listed = f"exported are the steps {', '.join(map(str, steps))}" if steps else "nothing is exported yet"
        raise EvaluationError(f"{run}: no finished export of step {step}; {listed}; run `codemix export {run}@{step}` first")
    return export
