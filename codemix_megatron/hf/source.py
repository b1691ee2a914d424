"""Reading a Megatron distributed checkpoint tensor by tensor in one process, at whatever layout it was saved."""

from pathlib import Path

import torch
from torch.distributed.checkpoint import FileSystemReader, load
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from codemix_megatron.checkpoint.loading import find_fault, list_checkpoints, read_card
from codemix_megatron.errors import ConversionError
from codemix_megatron.hf.llama import MEGATRON_NAMES
from codemix_megatron.recipe.schema import Model
from codemix_megatron.records.manifest import TokenizerCard
from codemix_megatron.records.run_folder import RunFolder, step_of

__all__ = ["CheckpointSource", "choose_checkpoint"]


def choose_checkpoint(run: RunFolder, step: int | None) -> Path:
    """Return the checkpoint of a step, or the newest; raises ConversionError naming those that are there."""
    there = list_checkpoints(run.checkpoints)
    chosen = there[-1:] if step is None else [p for p in there if step_of(p) == step]
    if not chosen:
        steps = ", ".join(str(step_of(p)) for p in there) or "none"
        raise ConversionError(f"{run.checkpoints}: no checkpoint{'' if step is None else f' of step {step}'}; there are steps {steps}")
    return chosen[0]


class CheckpointSource:
    """The weights of one checkpoint by role, and what its card says of them."""

    def __init__(self, checkpoint: Path):
        fault = find_fault(checkpoint)
        if fault:
            raise ConversionError(f"{checkpoint}: {fault}; choose another step with RUN@STEP")
        self.checkpoint, self.card = checkpoint, read_card(checkpoint)
        if "model" not in self.card:
            raise ConversionError(f"{checkpoint}/card.json: has no model block; save again with this version")
        self.model = Model(**self.card["model"])
        self.tokenizer = TokenizerCard(**self.card["tokenizer"])
        self.vocab_size = self.tokenizer.vocab_size
        entries = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
        self.entries = {key: entry for key, entry in entries.items() if isinstance(entry, TensorStorageMetadata)}
        self.names = self.find_names()

    def find_names(self) -> dict[str, str]:
        """Return role -> name in this checkpoint; missing and unknown tensors are named one by one."""
        names = {role: next((n for n in known if n in self.entries), None) for role, known in MEGATRON_NAMES.items()}
        if self.model.tie_embeddings:
            del names["output"]
        missing = [MEGATRON_NAMES[role][0] for role, name in names.items() if name is None]
        known = {n for several in MEGATRON_NAMES.values() for n in several}
        extra = [key for key in self.entries if not key.startswith("optimizer") and key not in known]
        if missing or extra:
            raise ConversionError(
                f"{self.checkpoint}: missing tensors: {', '.join(missing) or 'none'}; unknown: {', '.join(extra) or 'none'}"
            )
        return names

    def read(self, role: str) -> torch.Tensor:
        """Return one tensor whole, layers stacked."""
        entry = self.entries[self.names[role]]
        state = {self.names[role]: torch.empty(entry.size, dtype=entry.properties.dtype)}
        load(state, storage_reader=FileSystemReader(self.checkpoint), no_dist=True)
        return state[self.names[role]]
