"""Megatron-LM's old checkpoints: one mp_rank_TT[_PPP]/model_optim_rng.pt for each rank of tensor and pipeline, joined here.

Only weights are read; files are mapped, so that optimizer states beside them take no memory.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from codemix_megatron.checkpoint.foreign_pickle import load_foreign
from codemix_megatron.errors import ConversionError
from codemix_megatron.families.family import Row, StackIndex

__all__ = ["LegacyCheckpoint", "is_legacy"]

RANK_FOLDER = re.compile(r"^mp_rank_(\d{2})(?:_(\d{3}))?(?:_(\d{3}))?$")
WEIGHTS = "model_optim_rng.pt"
LAYER = re.compile(r"^decoder\.layers\.(\d+)\.")
SPLIT_ALONG_COLUMNS = ("linear_proj.weight", "linear_fc2.weight")


def is_legacy(folder: Path) -> bool:
    """Say whether a folder holds ranks of the old format."""
    return any(RANK_FOLDER.match(path.name) for path in folder.glob("mp_rank_*"))


class LegacyCheckpoint:
    """The tensors of an old checkpoint by name and layer of the whole model, and the arguments it was trained with."""

    def __init__(self, folder: Path):
        self.folder, self.states = folder, rank_states(folder)
        first = self.states[0, 0]
        self.common = first
        self.tensor_ranks = 1 + max(tensor for tensor, _ in self.states)
        self.stages = 1 + max(stage for _, stage in self.states)
        missing = [f"mp_rank_{t:02d}_{p:03d}" for t in range(self.tensor_ranks) for p in range(self.stages) if (t, p) not in self.states]
        if missing:
            raise ConversionError(f"{folder}: {', '.join(missing)} is missing; copy the complete checkpoint")
        if "language_model" in first.get("model", {}):
            raise ConversionError(f"{folder}: saved by Megatron-LM's models before megatron-core; save it with --use-mcore-models first")
        self.parts = self.find_parts()
        self.drop_tied_output()

    def drop_tied_output(self) -> None:
        """Leave out the copy of a tied embedding that the last stage has, when it is one."""
        output = self.parts.get(("output_layer.weight", None))
        if output is None or getattr(self.common.get("args"), "untie_embeddings_and_output_weights", False):
            return
        embedding = self.parts.get(("embedding.word_embeddings.weight", None), [])
        if len(embedding) != len(output) or not all(map(torch.equal, embedding, output)):
            raise ConversionError(f"{self.folder}: output_layer.weight is not the embedding, although its arguments tie them")
        del self.parts["output_layer.weight", None]

    def find_parts(self) -> dict[tuple[str, int | None], list[torch.Tensor]]:
        """Return (name, layer of the whole model) -> what each tensor rank has of it. Layers are counted chunk by chunk, stage by stage."""
        parts: dict[tuple[str, int | None], list[torch.Tensor]] = {}
        chunks = sorted((key for key in self.states[0, 0] if re.fullmatch(r"model\d*", key)), key=lambda key: int(key[5:] or 0))
        before = 0
        for chunk, stage in itertools.product(chunks, range(self.stages)):
            layers: set[int] = set()
            for tensor, name, layer, value in self.tensors_of(chunk, stage):
                layers |= set() if layer is None else {layer}
                known = parts.setdefault((name, None if layer is None else before + layer), [])
                if len(known) == tensor:  # tied embeddings are on the first and on the last stage
                    known.append(value)
            before += len(layers)
        return parts

    def tensors_of(self, chunk: str, stage: int) -> Iterator[tuple[int, str, int | None, torch.Tensor]]:
        """Yield (tensor rank, name, layer in the chunk, value) of every tensor of a model chunk on a pipeline stage."""
        for tensor in range(self.tensor_ranks):
            for name, value in self.states[tensor, stage].get(chunk, {}).items():
                if isinstance(value, torch.Tensor):
                    found = LAYER.match(name)
                    yield (tensor, name.replace(f".{found[1]}.", ".", 1), int(found[1]), value) if found else (tensor, name, None, value)

    def names(self) -> set[str]:
        """Return the names of all tensors, layers left out."""
        return {name for name, _ in self.parts}

    def dtype(self, name: str) -> torch.dtype:
        """Return what a tensor is saved in."""
        return next(parts[0].dtype for (other, _), parts in self.parts.items() if other == name)

    def read(self, name: str, row: Row, index: StackIndex) -> torch.Tensor:
        """Return one tensor of the whole model."""
        layer = index[0] if index else None
        parts = self.parts.get((name, layer), [])
        if len(parts) != self.tensor_ranks:
            raise ConversionError(f"{self.folder}: {name}{'' if layer is None else f' of layer {layer}'} is missing")
        if len(parts) == 1 or row.dimensions in (("hidden",), ("head",)):
            return parts[0]
        if row.dimensions[0] == "gate_up":  # each rank has its own gate above its own up
            return torch.cat([half for side in zip(*(part.chunk(2) for part in parts), strict=True) for half in side])
        return torch.cat(parts, dim=1 if name.endswith(SPLIT_ALONG_COLUMNS) else 0)

    def close(self) -> None:
        """Let go of the files."""
        self.parts, self.states = {}, {}


def rank_states(folder: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Return (tensor rank, stage) -> what its file holds."""
    states = {}
    for path in sorted(folder.glob("mp_rank_*")):
        if found := RANK_FOLDER.match(path.name):
            if found[3]:
                raise ConversionError(f"{path}: of expert-parallel ranks; a mixture of experts cannot be converted")
            states[int(found[1]), int(found[2] or 0)] = load_foreign(path / WEIGHTS)
    if (0, 0) not in states:
        raise ConversionError(f"{folder}: mp_rank_00 is missing; copy the complete checkpoint")
    return states
