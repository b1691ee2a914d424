"""Everything in a run's checkpoints folder: complete, torn and unfinished. No torch."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from codemix_megatron.checkpoint.loading import find_fault, list_checkpoints
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.checkpoint.retention import why_kept
from codemix_megatron.errors import CheckpointError
from codemix_megatron.plan.branch import sequences_at
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.run_folder import RunFolder, is_run_folder, saved_step, step_of

__all__ = ["Listed", "list_run"]


@dataclass(frozen=True)
class Listed:
    """One entry; what its metadata does not say is None."""

    name: str
    step: int | None
    tokens: int | None
    phase: str | None
    bytes: int
    at: str | None
    layout: dict | None
    kept: str | None
    fault: str | None  # None: complete
    is_checkpoint: bool  # False: a save that was not finished, or one set aside


def list_run(run: RunFolder, verify: bool, progress=lambda done, total: None) -> list[Listed]:
    """List what is there, oldest first; with `verify` every file is read again and compared with its checksum."""
    there = list_checkpoints(run.checkpoints)
    kept, entries = reasons(run, there), []
    for number, path in enumerate(there):
        entries.append(describe(path, kept.get(saved_step(path)), find_fault(path, checksums=verify)))
        progress(number + 1, len(there))
    for path in sorted(p for p in run.checkpoints.iterdir() if p.is_dir() and p not in there):
        what = "set aside: found torn at a start" if path.name.endswith(".torn") else "a save that is under way or was cut off"
        entries.append(Listed(path.name, None, None, None, size_of(path), None, None, None, what, is_checkpoint=False))
    return entries


def describe(path: Path, kept: str | None, fault: str | None) -> Listed:
    """Return one checkpoint's entry."""
    try:
        metadata = read_metadata(path)
    except CheckpointError:
        metadata = {}
    known = {key: metadata.get(key) for key in ("tokens", "phase", "at", "layout")}
    return Listed(path.name, step_of(path), **known, bytes=size_of(path), kept=kept, fault=fault, is_checkpoint=True)


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def reasons(run: RunFolder, there: list[Path]) -> dict[int, str]:
    """Return step -> why the recipe keeps it; nothing for a folder that no recipe belongs to."""
    if not (is_run_folder(run) and run.plan.is_file()):
        return {}
    recipe, plan = read_run_recipe(run), read_json(run.plan)
    first = plan["phases"][0]["first_step"] - 1
    phase_ends = {phase["first_step"] + phase["steps"] - 1 for phase in plan["phases"]}
    return why_kept([saved_step(p) for p in there], recipe.checkpoint, partial(tokens_at, plan), phase_ends, first)


def tokens_at(plan: dict, step: int) -> int:
    """Return the tokens seen after a step of a plan."""
    return sequences_at(plan, step) * plan["sequence_length"]
