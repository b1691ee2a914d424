"""A checkpoint that Megatron-LM saved, by tensor and layer of the whole model: torch_dist, or the old one file for each rank."""

import re
from pathlib import Path
from typing import Any, Protocol

import torch

from codemix_megatron.checkpoint.foreign_pickle import load_foreign, load_foreign_object
from codemix_megatron.checkpoint.torch_dist import METADATA, ShardReader
from codemix_megatron.conversion.legacy_ranks import LegacyCheckpoint, is_legacy
from codemix_megatron.errors import ConversionError
from codemix_megatron.families.family import Row, StackIndex
from codemix_megatron.records.atomic import read_json

__all__ = ["MegatronCheckpoint", "open_megatron"]

COMMON = "common_state/shard_0_1"
TRACKER = "latest_checkpointed_iteration.txt"
LAYER = re.compile(r"\.layers\.\d+\.")
# Not of the model: states of optimizers, of random numbers and of the scheduler.
OTHERS = ("optimizer", "chained_", "rng_state", "rerun_state_machine", "opt_param_scheduler")


class MegatronCheckpoint(Protocol):
    """What both formats give."""

    folder: Path
    common: dict[str, Any]  # arguments, iteration

    def names(self) -> set[str]:
        """Return the names of the model's tensors, layers left out."""

    def dtype(self, name: str) -> torch.dtype:
        """Return what a tensor is saved in."""

    def read(self, name: str, row: Row, index: StackIndex) -> torch.Tensor:
        """Return one tensor of the whole model, padding of the vocabulary included."""

    def close(self) -> None:
        """Close the files."""


def open_megatron(path: Path) -> MegatronCheckpoint:
    """Open the newest iteration of a folder of checkpoints, or one iter_* (or release) folder itself."""
    folder = newest_iteration(path)
    if is_legacy(folder):
        return LegacyCheckpoint(folder)
    if not (folder / METADATA).is_file():
        raise ConversionError(
            f"{folder}: holds neither {METADATA} nor mp_rank_* folders; checkpoints that can be read are torch_dist, and the old torch format"
        )
    return TorchDistCheckpoint(folder)


def newest_iteration(path: Path) -> Path:
    """Return the folder of the iteration that the tracker file names, or `path` where it is one itself."""
    tracker = path / TRACKER
    if not tracker.is_file():
        if not path.is_dir():
            raise ConversionError(f"{path}: no such folder; give one with {TRACKER}, or an iter_* folder")
        return path
    named = tracker.read_text(encoding="utf-8", errors="replace").strip()
    folder = path / (f"iter_{int(named):07d}" if named.isascii() and named.isdigit() else "release")
    if not (named.isdigit() or named == "release") or not folder.is_dir():
        there = ", ".join(sorted(p.name for p in path.iterdir() if p.is_dir())[:5]) or "no folders"
        raise ConversionError(f"{tracker}: names {named[:40]!r}, which is not there ({there}); give an iter_* folder")
    return folder


class TorchDistCheckpoint:
    """A torch_dist checkpoint of megatron-core; its layers are stacked in one tensor, or each has its own."""

    def __init__(self, folder: Path):
        self.folder, self.shards = folder, ShardReader(folder)
        try:
            backend = read_json(folder / "metadata.json").get("sharded_backend", "torch_dist")
        except (OSError, ValueError, AttributeError) as fault:
            raise ConversionError(f"{folder}/metadata.json: cannot be read ({fault}); copy the complete checkpoint") from None
        if backend != "torch_dist":
            raise ConversionError(f"{folder}: saved with --ckpt-format {backend}; load it in Megatron-LM and save it as torch_dist")
        self.common = self.read_common()

    def names(self) -> set[str]:
        """Return the names of the model's tensors, layers left out."""
        model = (name for name in self.shards.tensors if not name.startswith(OTHERS))
        return {re.sub(r"(linear_fc1\.weight)_[wv]$", r"\1", LAYER.sub(".layers.", name)) for name in model}

    def read_common(self) -> dict[str, Any]:
        """Return what is no tensor: in a file of its own, or since megatron-core 0.19 among the tensors."""
        if COMMON in self.shards.objects and not (self.folder / "common.pt").is_file():
            return load_foreign_object(self.shards.read_object(COMMON), f"{self.folder}, {COMMON}")
        return load_foreign(self.folder / "common.pt")

    def stored(self, name: str, index: StackIndex) -> tuple[str, StackIndex]:
        """Return what a tensor is called here, and the index in it to take."""
        if name in self.shards.tensors or not index:
            return name, index
        return name.replace(".layers.", f".layers.{index[0]}.", 1), index[1:]

    def dtype(self, name: str) -> torch.dtype:
        """Return what a tensor is saved in."""
        found, _ = self.stored(name, (0,) if ".layers." in name else ())
        return self.shards.tensors[found if found in self.shards.tensors else f"{found}_w"].dtype

    def read(self, name: str, row: Row, index: StackIndex) -> torch.Tensor:
        """Return one tensor of the whole model; gate and up may stand apart."""
        found, of = self.stored(name, index)
        if found in self.shards.tensors:
            return self.shards.read(found, of)
        if f"{found}_w" in self.shards.tensors and f"{found}_v" in self.shards.tensors:
            return torch.cat([self.shards.read(f"{found}_{side}", of) for side in "wv"])
        raise ConversionError(f"{self.folder}: {found} is missing")

    def close(self) -> None:
        """Close the files."""
        self.shards.close()
