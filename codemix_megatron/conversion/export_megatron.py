"""Checkpoint -> a folder that Megatron-LM's --load takes: its weights as a release, at no layout, with the arguments they need."""

import io
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from codemix_megatron.conversion.checkpoint_source import CheckpointSource, choose_checkpoint
from codemix_megatron.conversion.export import DTYPES, ExportOptions
from codemix_megatron.conversion.megatron_checkpoint import TRACKER
from codemix_megatron.conversion.megatron_namespace import OLDEST, namespace_of_model
from codemix_megatron.conversion.model_files import kept_tokenizer
from codemix_megatron.conversion.publishing import publishing
from codemix_megatron.conversion.safetensors_files import check_finite
from codemix_megatron.conversion.shard_files import write_shards
from codemix_megatron.conversion.tokenizer_files import check_tokenizer, write_tokenizer
from codemix_megatron.errors import ConversionError
from codemix_megatron.families.family import Row, StackIndex
from codemix_megatron.megatron.importing import import_megatron
from codemix_megatron.plan.megatron_arguments import model_arguments
from codemix_megatron.recipe.schema import Batch, Model, Parallel, Recipe, Tokenizer
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["MegatronExport", "export_megatron"]

# A release is what converters leave there: Megatron-LM starts at iteration 0 and asks for neither Adam's state nor random numbers.
RELEASE, TOKENIZER, FLAGS = "release", "tokenizer", "arguments.txt"
VERSION = 3.0  # of the order of query, key and value


@dataclass(frozen=True)
class MegatronExport:
    """Where an export is, which step of the run it holds, and how many tensors megatron-core loaded alike from both (None: not asked)."""

    folder: Path
    step: int
    tensors: int | None


def export_megatron(run: RunFolder, step: int | None, output: Path, options: ExportOptions, oldest: str = OLDEST) -> MegatronExport:
    """Write one checkpoint of a run, newest by default, as Megatron-LM loads it; nothing is left under the final name after a fault.

    Raises ConversionError, also for each key of the model that Megatron-LM of version `oldest` and newer has no argument for.
    """
    source, folder = CheckpointSource(choose_checkpoint(run, step), options.family), Path(output)
    rows = source.model.padded_vocab_size(source.tokenizer.vocab_size)
    arguments = namespace_of_model(source.model, rows, source.checkpoint, oldest)
    if folder.exists() and not (folder / TRACKER).is_file():
        raise ConversionError(f"{folder}: there and not a checkpoint of Megatron-LM; give another folder or remove it")
    common = {"args": arguments, "iteration": 0, "checkpoint_version": VERSION, "num_floating_point_operations_so_far": 0}
    loaded = None
    with publishing(folder, replace=True) as partial:
        (partial / RELEASE).mkdir()
        write_release(source, partial / RELEASE, common, options)
        metadata = kept_tokenizer(run, source.tokenizer, source.origin)
        (partial / TOKENIZER).mkdir()
        write_tokenizer(metadata, partial / TOKENIZER, source.context_length, source.origin)
        replace_text(partial / FLAGS, flags_of(source.model))
        replace_text(partial / TRACKER, RELEASE)
        if options.parity:
            import_megatron()
            from codemix_megatron.conversion.parity import check_megatron_weights

            check_tokenizer(metadata, partial / TOKENIZER)
            loaded = check_megatron_weights(source, partial / RELEASE, DTYPES.get(options.dtype or ""))
    return MegatronExport(folder, source.metadata["step"], loaded)


def write_release(source: CheckpointSource, folder: Path, common: dict, options: ExportOptions) -> None:
    """Stream all tensors, and what Megatron-LM keeps beside them; the checkpoint they come from is verified first."""
    if fault := source.find_fault():
        raise ConversionError(f"{source.checkpoint}: {fault}; choose another step with RUN@STEP")
    dtype = DTYPES.get(options.dtype or "")

    def parts(row: Row, index: StackIndex) -> Iterator[tuple[int, torch.Tensor]]:
        tensor = source.read(row, index)
        tensor = tensor if dtype is None else tensor.to(dtype)
        check_finite(source.names[row], tensor)
        yield 0, tensor.contiguous()

    unsharded = io.BytesIO()
    torch.save(common, unsharded)
    try:
        write_shards(folder, source.rows, source.dimensions, parts, options.progress, unsharded.getvalue())
    finally:
        source.shards.close()


def flags_of(model: Model) -> str:
    """Return Megatron-LM's flags of the model, one on a line, as a shell reads them."""
    recipe = Recipe(
        name="", model=model, parallel=Parallel(), batch=Batch(global_sequences=1), tokenizer=Tokenizer(path=""), corpora={}, phases=()
    )
    lines = [
        " ".join([flag, *(shlex.quote(str(value)) for value in values)]) for flag, *values in model_arguments(recipe, model.sequence_length)
    ]
    return "\n".join(lines) + "\n"
