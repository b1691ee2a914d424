"""Saving a checkpoint: complete under its final name, or absent.

Shards go to a folder with a partial name; every rank adds checksums of its own files; card.json is
written last and the folder renamed. A folder without a card is no checkpoint. (megatron's format alone
is not atomic: killed while overwriting, old metadata survives and loads with wrong weights.)
"""

import os
import shutil
import time
from pathlib import Path

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies.torch import (
    MCoreSavePlanner,
    TorchDistSaveShardedStrategy,
    _replace_state_dict_keys_with_sharded_keys,
    mcore_to_pyt_state_dict,
)
from torch.distributed.checkpoint import CheckpointException, FileSystemWriter

from codemix_megatron.errors import CheckpointError
from codemix_megatron.parallel.ranks import any_rank
from codemix_megatron.records.atomic import partial_path, sync_folder, write_json
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.run_folder import CARD

__all__ = ["save_checkpoint"]


class DirectSave(TorchDistSaveShardedStrategy):
    """megatron's torch_dist format through torch's own writer.

    Megatron's writer forks processes and starts a manager process that imports torch anew: 5 to 8 s for the
    smallest model. torch's writer writes in this process, syncs to disk, and brings a fault of one rank to all.
    """

    def __init__(self):
        super().__init__("torch_dist", 1)

    def save(self, sharded_state_dict, checkpoint_dir) -> None:
        """Write this rank's shards. Every rank calls this."""
        flat, _, _ = _replace_state_dict_keys_with_sharded_keys(sharded_state_dict, self.keep_only_main_replica)
        torch.distributed.checkpoint.save(
            mcore_to_pyt_state_dict(flat, False),
            storage_writer=FileSystemWriter(checkpoint_dir),
            planner=MCoreSavePlanner(dedup_replicated_tensors=False, flatten_state_dict=False),
        )


def save_checkpoint(folder, sharded_state: dict, card: dict, device: torch.device) -> dict:
    """Save under `folder` and return the finished card. Every rank calls this.

    `card` holds what the caller wants to know again on loading. Raises CheckpointError on every rank
    when one of them fails; nothing is left under the final name then.
    """
    folder, began = Path(folder), time.perf_counter()
    partial = partial_path(folder)
    fault, files = None, {}
    try:
        if dist.get_rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        dist.barrier()
        dist_checkpointing.save(sharded_state, str(partial), DirectSave(), validate_access_integrity=False)
        files = checksums(partial, dist.get_rank())
    except (Exception, CheckpointException) as error:  # whatever went wrong on one rank has to reach all of them
        fault = error
    if any_rank(fault is not None, device):
        raise failed(folder, partial, fault)
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, files)
    card = {**card, "seconds": round(time.perf_counter() - began, 3), "files": {k: v for part in everyone for k, v in part.items()}}
    if dist.get_rank() == 0:
        fault = finish(partial, folder, card)
    if any_rank(fault is not None, device):
        raise failed(folder, partial, fault)
    return card


def checksums(folder: Path, rank: int) -> dict[str, dict]:
    """Return name -> bytes and sha256 of the files this rank wrote; rank 0 also takes those nobody's name is on."""
    mine = {p for p in folder.iterdir() if p.name.startswith(f"__{rank}_")}
    if rank == 0:
        mine |= {p for p in folder.iterdir() if not p.name.startswith("__")}
    return {p.name: {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in sorted(mine)}


def finish(partial: Path, folder: Path, card: dict) -> Exception | None:
    """Write the card, then rename; return the fault instead of raising it, so that all ranks can hear of it."""
    try:
        write_json(partial / CARD, card)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(partial, folder)
        sync_folder(folder.parent)
    except OSError as fault:
        return fault
    return None


def failed(folder: Path, partial: Path, fault: Exception | None) -> CheckpointError:
    """Remove what was written and return the error to raise."""
    shutil.rmtree(partial, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free / 2**20 if folder.parent.exists() else 0
    why = f"{root_cause(fault)}; {free:.0f} MiB are free there" if fault else "another rank failed"
    return CheckpointError(
        f"{folder}: could not be saved ({why}); earlier checkpoints are untouched, mend it and run the same command again"
    )


def root_cause(fault: BaseException) -> str:
    """Return the first line of the innermost fault; torch wraps one fault per rank."""
    inner = getattr(fault, "failures", None)
    if inner:
        fault = next(iter(inner.values()))[0]
    return f"{type(fault).__name__}: {fault}".splitlines()[0]
