"""Saving a checkpoint: complete under its final name, or absent.

Shards go to a folder with a partial name; every rank adds checksums of its own files; card.json is
written last and the folder renamed. A folder without it is no checkpoint. (megatron's format alone
is not atomic: killed while overwriting, old metadata survives and loads with wrong weights.)

A save has three parts: `Saving(...)` takes what there is to write, `write` puts it on disk and talks to no
other rank, `finish` makes it a checkpoint. Training goes on during the second when the first has copied.
"""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.core import CheckpointingConfig, save_config
from megatron.core.dist_checkpointing.mapping import ShardedObject, ShardedTensor
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from megatron.core.dist_checkpointing.strategies.torch import (
    MCoreSavePlanner,
    TorchDistSaveShardedStrategy,
    _replace_state_dict_keys_with_sharded_keys,
    mcore_to_pyt_state_dict,
)
from torch.distributed.checkpoint import CheckpointException, FileSystemWriter
from torch.distributed.checkpoint.metadata import StorageMeta

from codemix_megatron.checkpoint.host_copies import HostCopies
from codemix_megatron.checkpoint.loading import remove_folder
from codemix_megatron.checkpoint.metadata import write_metadata
from codemix_megatron.checkpoint.root_cause import root_cause
from codemix_megatron.errors import CheckpointError
from codemix_megatron.records.atomic import partial_path, sync_file, sync_folder
from codemix_megatron.records.checksum import file_sha256

__all__ = ["Saved", "Saving", "save_checkpoint"]


class ShardFiles(FileSystemWriter):
    """torch's writer, whose `.metadata` names its folder as text: Python 3.13 pickles a path in a way that no other version reads."""

    def storage_meta(self) -> StorageMeta | None:
        """Return what this save is called."""
        return StorageMeta(checkpoint_id=str(self.path), save_id=self.save_id)


class LocalWrite(TorchDistSaveShardedStrategy):
    """megatron's torch_dist format through torch's own writer, in parts.

    Megatron's writer forks processes and starts a manager process that imports torch again: 5 to 8 s for the
    smallest model. torch's `save` talks between ranks before and after it writes; here each rank plans by itself
    (megatron has given every shard to one rank already) and rank 0 joins the plans when all have written.
    """

    def __init__(self, copies: HostCopies | None):
        super().__init__("torch_dist", 1)
        self.copies = copies  # where training goes on meanwhile

    def async_save(self, sharded_state_dict, checkpoint_dir, async_strategy: str = "mcore") -> AsyncRequest:
        """Plan this rank's part, and copy it where training continues meanwhile and changes it."""
        if dist.get_rank() == 0:
            write_common(sharded_state_dict, checkpoint_dir)
        flat, _, _ = _replace_state_dict_keys_with_sharded_keys(sharded_state_dict, self.keep_only_main_replica)
        if self.copies is not None:
            self.copies.take(shard for shards in flat.values() for shard in shards if isinstance(shard, ShardedTensor))
        rank = dist.get_rank()
        self.planner = MCoreSavePlanner(dedup_replicated_tensors=False, flatten_state_dict=False)
        self.planner.set_up_planner(state_dict=mcore_to_pyt_state_dict(flat, False), storage_meta=None, is_coordinator=rank == 0)
        self.writer = ShardFiles(checkpoint_dir)
        self.writer.set_up_storage_writer(rank == 0, rank=rank, use_collectives=False)  # a rank names its files by itself
        self.plan = self.writer.prepare_local_plan(self.planner.create_local_plan())
        return AsyncRequest(None, (), [])

    def write(self) -> list:
        """Write this rank's shards, synced to disk; return torch's notes of what is where."""
        return self.writer.write_data(self.plan, self.planner).value()

    def write_torch_metadata(self, plans: list, notes: list) -> None:
        """Join the plans and notes of all ranks, given in order of rank, into the files that loading begins with."""
        _, metadata = self.planner.create_global_plan(plans)
        self.writer.use_collectives = True  # now for all: the file is called .metadata
        self.writer.finish(metadata, notes)
        save_config(CheckpointingConfig(self.backend, self.version), str(self.writer.path))


def write_common(sharded_state: dict, folder) -> None:
    """Write common.pt where megatron-core leaves it out, since 0.19: an earlier one loads no checkpoint without it."""
    common = sharded_state.get("common_state")
    if isinstance(common, ShardedObject):
        torch.save(common.data, Path(folder) / "common.pt")


@dataclass(frozen=True)
class Saved:
    """What a finished save took."""

    seconds: float
    bytes: int


class Saving:
    """One save under way. Every rank makes one, calls `write` (on any thread), then `finish`."""

    def __init__(
        self,
        folder,
        sharded_state: dict,
        metadata: dict,
        device: torch.device,
        behind: bool = False,
        copies: HostCopies | None = None,
        before_commit: Callable[[], None] = lambda: None,
    ):
        """Take what there is to write; with `behind` its tensors may change from here on. Every rank calls this.

        `copies` keeps host memory from one save to the next, of which one at a time may be under way.

        `metadata` holds what the caller wants to know again on loading; `before_commit` may raise on rank 0 before the folder gets its name.
        """
        self.folder, self.metadata, self.device, self.before_commit = Path(folder), metadata, device, before_commit
        self.partial, self.began = partial_path(self.folder), time.perf_counter()
        self.fault: BaseException | None = None
        self.notes: list = []
        self.files: dict[str, dict] = {}
        self.strategy = LocalWrite((copies or HostCopies()) if behind else None)
        with self.kept_fault():
            if dist.get_rank() == 0:
                shutil.rmtree(self.partial, ignore_errors=True)
                self.partial.mkdir(parents=True)
        dist.barrier()
        with self.kept_fault():
            options = {"validate_access_integrity": False, "async_sharded_save": True}
            dist_checkpointing.save(sharded_state, str(self.partial), self.strategy, **options)

    @contextmanager
    def kept_fault(self):
        """Keep an error for `finish`, which raises it on all ranks; do nothing after an earlier one."""
        try:
            yield
        except (Exception, CheckpointException) as fault:  # whatever it was, the other ranks have to hear of it
            self.fault = self.fault or fault

    def write(self) -> None:
        """Write this rank's shards and their checksums. Talks to no other rank and raises nothing."""
        with self.kept_fault():
            if self.fault is None:
                self.notes = self.strategy.write()
                self.files = checksums(self.partial, f"__{dist.get_rank()}_")

    def finish(self) -> Saved:
        """Turn what all ranks wrote into a checkpoint and return what it took. Every rank calls this.

        What was written is sent to rank 0 alone, which makes the checkpoint of it. Raises CheckpointError on every rank when one of them
        failed; nothing is left under the final name then.
        """
        is_main = dist.get_rank() == 0
        parts: list[Any] | None = [None] * dist.get_world_size() if is_main else None
        dist.gather_object((getattr(self.strategy, "plan", None), self.notes, self.files, root_cause(self.fault)), parts)
        box: list[Any] = [None, self.join_parts(parts) if parts else None]
        if is_main and box[1] is None:
            box[0] = Saved(self.metadata["seconds"], sum(f["bytes"] for f in self.metadata["files"].values()))
        dist.broadcast_object_list(box, device=self.device)
        if box[1]:
            failed = self.failed(box[1])
            failed.is_carried = self.fault is None
            raise failed from self.fault
        return box[0]

    def join_parts(self, parts: list[Any]) -> str | None:
        """Make the checkpoint of what all ranks wrote; return why it could not be made, or None. On rank 0 alone."""
        plans, notes, files, causes = zip(*parts, strict=True)
        self.metadata["files"] = {name: entry for part in files for name, entry in part.items()}
        cause = next(filter(None, causes), None)
        if cause is None:
            with self.kept_fault():
                self.make_whole(list(plans), list(notes))
            cause = root_cause(self.fault)
        return cause

    def make_whole(self, plans: list, notes: list) -> None:
        """Write what belongs to all ranks, then the metadata, then give the folder its name."""
        self.strategy.write_torch_metadata(plans, notes)
        rest = [p for p in self.partial.iterdir() if not p.name.startswith("__")]
        for path in rest:
            sync_file(path)
        self.metadata["files"] |= {p.name: describe_file(p) for p in sorted(rest)}
        self.metadata["seconds"] = round(time.perf_counter() - self.began, 3)
        write_metadata(self.partial, self.metadata)
        self.before_commit()
        remove_folder(self.folder)  # a torn one of the same step
        os.rename(self.partial, self.folder)
        sync_folder(self.folder.parent)

    def failed(self, cause: str) -> CheckpointError:
        """Remove what was written and return the error to raise."""
        shutil.rmtree(self.partial, ignore_errors=True)
        above = self.folder.parent
        free = shutil.disk_usage(above).free / 2**20 if above.exists() else 0
        return CheckpointError(
            f"{self.folder}: could not be saved ({cause}; {free:.0f} MiB are free there);"
            " earlier checkpoints are untouched, fix it and run the same command again"
        )


def save_checkpoint(folder, sharded_state: dict, metadata: dict, device: torch.device) -> Saved:
    """Save under `folder`, wait for it, and return what it took. Every rank calls this; faults as `Saving.finish`."""
    saving = Saving(folder, sharded_state, metadata, device)
    saving.write()
    return saving.finish()


def checksums(folder: Path, prefix: str) -> dict[str, dict]:
    """Return name -> bytes and sha256 of the files whose names begin with `prefix`."""
    return {p.name: describe_file(p) for p in sorted(folder.iterdir()) if p.name.startswith(prefix)}


def describe_file(path: Path) -> dict:
    """Return a file's size and checksum."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
