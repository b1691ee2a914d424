"""CheckpointSource: a Megatron checkpoint by tensor and layer, at whatever layout it was saved."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import torch

from codemix_megatron.checkpoint.loading import find_fault, list_checkpoints
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.checkpoint.torch_dist import ShardReader
from codemix_megatron.conversion.dimensions import Dimensions
from codemix_megatron.conversion.read_ahead import read_ahead
from codemix_megatron.conversion.safetensors_files import TensorPlan
from codemix_megatron.errors import ConversionError
from codemix_megatron.families.configuration import config_of_model
from codemix_megatron.families.family import Family, Row, StackIndex, indexed_rows
from codemix_megatron.families.registry import choose_family
from codemix_megatron.recipe.schema import Model, as_plain
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.records.run_folder import RunFolder, step_of

__all__ = ["CheckpointSource", "choose_checkpoint", "hugging_face_config", "model_defaults", "resolved"]


def choose_checkpoint(run: RunFolder, step: int | None) -> Path:
    """Return the checkpoint of a step, or the newest; raises ConversionError naming those that are there."""
    there = list_checkpoints(run.checkpoints)
    chosen = there[-1:] if step is None else [p for p in there if step_of(p) == step]
    if not chosen:
        steps = ", ".join(str(step_of(p)) for p in there) or "none"
        raise ConversionError(f"{run.checkpoints}: no checkpoint{'' if step is None else f' of step {step}'}; there are steps {steps}")
    return chosen[0]


class CheckpointSource:
    """The weights of one checkpoint, and what its metadata says of them."""

    def __init__(self, checkpoint: Path, family: str | None = None):
        self.checkpoint, self.metadata = checkpoint, read_metadata(checkpoint)
        if "model" not in self.metadata:
            raise ConversionError(f"{checkpoint}/card.json: has no model block; save again with this version")
        self.model = Model.from_plain(self.metadata["model"])
        self.tokenizer = TokenizerMetadata(**self.metadata["tokenizer"])
        self.vocab_size = self.model.ids(self.tokenizer.vocab_size)
        # of a public model: family, special tokens, context, files beside the weights
        self.origin = self.metadata.get("hugging_face") or {}
        self.family = choose_family(resolved(self.model), model_defaults(), family or self.origin.get("family"))
        self.rows = self.family.rows(self.model.tie_embeddings, self.model.linear_bias)
        self.dimensions = Dimensions(self.model, self.vocab_size)
        self.shards = ShardReader(checkpoint)
        self.names = self.find_names()

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are saved in; norms may be wider."""
        return self.dtype_of(self.rows[0])

    @property
    def context_length(self) -> int:
        """How many tokens the model can read: what it was trained on here, or more where it came with more."""
        return max(self.model.sequence_length, self.origin.get("max_position_embeddings") or 0)

    def dtype_of(self, row: Row) -> torch.dtype:
        """Return what the tensors of a row are saved in."""
        return self.shards.tensors[self.names[row]].dtype

    def is_rounded_by(self, dtype: torch.dtype | None) -> bool:
        """Say whether some weight is saved in more digits than a dtype has; None is that of each weight."""
        return dtype is not None and any(torch.finfo(dtype).eps > torch.finfo(self.dtype_of(row)).eps for row in self.rows)

    def find_names(self) -> dict[Row, str]:
        """Return row -> name in this checkpoint; missing, misshapen and unknown tensors are named one by one."""
        there, faults = self.shards.tensors, []
        names: dict[Row, str] = {}
        for row in self.rows:
            name = next((n for n in row.stacked_names if n in there), None)
            wanted = (*row.stack(self.model.num_layers, self.model.num_experts or 0), *self.dimensions.megatron_shape(row))
            if name is None:
                faults.append(f"{row.stacked_names[-1]} is missing")
                continue
            if there[name].shape != wanted:
                faults.append(f"{name} has shape {list(there[name].shape)}, the model block makes it {list(wanted)}")
            names[row] = name
        known = {name for row in self.rows for name in row.stacked_names}
        faults += [f"{name}: unknown tensor" for name in there if not name.startswith("optimizer") and name not in known]
        if faults:
            raise ConversionError(f"{self.checkpoint} as {self.family.model_type}: " + "\n  ".join([f"{len(faults)} faults", *faults]))
        return names

    def hugging_face_plan(self, dtype: torch.dtype | None = None) -> TensorPlan:
        """Return name -> shape and dtype (default: the checkpoint's) of every tensor of the Hugging Face side, in the order of `tensors`."""
        return {
            name: (shape, dtype or self.dtype_of(row))
            for row, index in self.matrices()
            for name, shape in zip(row.names_at(index), self.dimensions.hugging_face_shapes(row), strict=True)
        }

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (Hugging Face name, tensor), the next Megatron tensor being read meanwhile; then close the files, whatever happened."""
        try:
            for row, index, tensor in read_ahead(self.stored()):
                yield from zip(row.names_at(index), self.dimensions.split(row, tensor), strict=True)
        finally:
            self.shards.close()

    def matrices(self) -> Iterator[tuple[Row, StackIndex]]:
        """Yield (row, index) of every matrix and vector of the model."""
        return indexed_rows(self.rows, self.model.num_layers, self.model.num_experts or 0)

    def stored(self) -> Iterator[tuple[Row, StackIndex, torch.Tensor]]:
        """Yield each tensor of Megatron's, layer by layer."""
        for row, index in self.matrices():
            yield row, index, self.read(row, index)

    def read(self, row: Row, index: StackIndex) -> torch.Tensor:
        """Return one tensor of Megatron's, or one layer or expert of it."""
        return self.shards.read(self.names[row], index)

    def find_fault(self) -> str | None:
        """Compare every file of the checkpoint with the metadata; return what is wrong, or None."""
        return find_fault(self.checkpoint)


def resolved(model: Model) -> dict:
    """Return the model block with defaults resolved; head_dim is None unless it has to be given."""
    usual = model.head_size * model.num_attention_heads == model.hidden_size
    sizes = {"num_query_groups": model.query_groups, "ffn_hidden_size": model.ffn_size, "head_dim": None if usual else model.head_size}
    return as_plain(model) | sizes


def hugging_face_config(family: Family, model: Model, ids: int) -> dict:
    """Return config.json's content but for special tokens and dtype; `ids` is the vocabulary without padding."""
    return config_of_model(family, resolved(model) | {"head_dim": model.head_size}, ids)


def model_defaults() -> dict:
    """Return the recipe's defaults of the model block."""
    return {declared.name: declared.default for declared in fields(Model)}
