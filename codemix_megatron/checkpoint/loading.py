"""Finding, verifying, loading and pruning checkpoints."""

import shutil
from pathlib import Path

from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.checkpoint.root_cause import root_cause
from codemix_megatron.errors import CheckpointError
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.run_folder import CHECKPOINT_METADATA, saved_step, step_of

__all__ = [
    "clear_partial",
    "find_fault",
    "list_checkpoints",
    "load_checkpoint",
    "named_like_checkpoints",
    "newest_valid",
    "prune",
    "remove_folder",
    "set_aside",
]


def list_checkpoints(folder) -> list[Path]:
    """Return checkpoints that have their metadata, oldest first."""
    return [p for p in named_like_checkpoints(folder) if (p / CHECKPOINT_METADATA).is_file()]


def named_like_checkpoints(folder) -> list[Path]:
    """Return everything with a checkpoint's name, oldest first; what lost its metadata is among them."""
    return sorted((p for p in Path(folder).glob("step-*") if step_of(p) is not None), key=saved_step)


def find_fault(checkpoint, checksums: bool = True) -> str | None:
    """Compare every file with the checkpoint's metadata (without `checksums`, its size only); return what is wrong, or None."""
    checkpoint = Path(checkpoint)
    try:
        files = read_metadata(checkpoint)["files"]
    except (CheckpointError, KeyError) as fault:
        return str(fault)
    for name, wanted in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != wanted["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, {CHECKPOINT_METADATA} says {wanted['bytes']}"
        if checksums and file_sha256(path) != wanted["sha256"]:
            return f"{name} has another checksum than {CHECKPOINT_METADATA} says"
    return None


def newest_valid(folder) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint without a fault, and a line for each newer one that has one."""
    complaints: list[str] = []
    for checkpoint in reversed(named_like_checkpoints(folder)):
        fault = find_fault(checkpoint)
        if fault is None:
            return checkpoint, complaints
        complaints.append(f"{checkpoint}: {fault}; it is not used")
    return None, complaints


def set_aside(folder, after: Path | None) -> None:
    """Rename checkpoints newer than the valid one `after` (all without one) to step-N.torn.

    They stay to be looked at, and no longer count as the newest, in whose favour valid ones are removed.
    """
    for checkpoint in named_like_checkpoints(folder):
        if after is None or saved_step(checkpoint) > saved_step(after):
            remove_folder(torn := checkpoint.with_name(f"{checkpoint.name}.torn"))
            checkpoint.rename(torn)


def load_checkpoint(checkpoint, sharded_state: dict) -> dict:
    """Return the state dict filled from `checkpoint`, at any layout and from local layers or Transformer Engine's. Every rank calls this."""
    from megatron.core import dist_checkpointing  # here: export and import read the metadata too, and do without its 100 MB
    from torch.distributed.checkpoint import CheckpointException

    from codemix_megatron.checkpoint.extra_state import put_back, take_out_absent
    from codemix_megatron.checkpoint.safety import refuse_foreign_code

    refuse_foreign_code(Path(checkpoint))
    try:
        absent = take_out_absent(Path(checkpoint), sharded_state)
        loaded = dist_checkpointing.load(sharded_state, str(checkpoint), validate_access_integrity=False)
        put_back(loaded, absent)
        return loaded
    except (Exception, CheckpointException) as fault:  # the latter is no Exception
        raise CheckpointError(f"{checkpoint}: cannot be loaded into this model ({root_cause(fault)})") from fault


def prune(folder, kept: dict[int, str]) -> list[Path]:
    """Remove the checkpoints whose steps are not in `kept` (`why_kept` says which those are); return what was removed."""
    removed = [p for p in list_checkpoints(folder) if step_of(p) not in kept]
    for checkpoint in removed:
        doomed = checkpoint.with_name(f".{checkpoint.name}.removed")  # first: a half removed checkpoint must not look complete
        remove_folder(doomed)
        checkpoint.rename(doomed)
        remove_folder(doomed)
    return removed


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there. Of a link only the link: what it leads to is somebody else's."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def clear_partial(folder) -> list[Path]:
    """Remove what saves and removals that were cut off have left; return it. Only while nobody saves there."""
    left = list(Path(folder).glob(".step-*"))
    for path in left:
        remove_folder(path)
    return left
