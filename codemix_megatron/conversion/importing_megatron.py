"""A checkpoint that Megatron-LM saved -> a run whose checkpoint any layout trains on from and any export is made of. No ranks."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from codemix_megatron.checkpoint.metadata import write_metadata
from codemix_megatron.conversion.checkpoint_source import model_defaults, resolved
from codemix_megatron.conversion.dimensions import Dimensions
from codemix_megatron.conversion.importing import ImportOptions, write_blocks
from codemix_megatron.conversion.megatron_checkpoint import MegatronCheckpoint, open_megatron
from codemix_megatron.conversion.megatron_model_block import model_of_arguments
from codemix_megatron.conversion.model_files import keep_model_files
from codemix_megatron.conversion.publishing import publishing
from codemix_megatron.conversion.safetensors_files import check_finite
from codemix_megatron.conversion.shard_files import write_shards
from codemix_megatron.errors import ConversionError
from codemix_megatron.families.family import Row, StackIndex
from codemix_megatron.families.registry import choose_family
from codemix_megatron.recipe.pretrained import fitting_model
from codemix_megatron.recipe.schema import Model, as_plain
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["import_megatron_checkpoint"]


def import_megatron_checkpoint(
    path: Path, run: RunFolder, tokenizer: TokenizerMetadata, options: ImportOptions, unused: str = "refuse"
) -> tuple[Path, dict]:
    """Write the weights of Megatron-LM's checkpoint as checkpoint step-0 of `run`, model.yaml and the tokenizer beside.

    `unused`: what becomes of arguments that Megatron-LM reads and computes without: refuse, keep or drop.
    Return checkpoint and metadata. Raises ConversionError naming each argument and tensor that cannot be converted.
    """
    if run.checkpoints.exists() and any(run.checkpoints.glob("step-*")):
        raise ConversionError(f"{run.checkpoints}: there are checkpoints already; give an empty or new folder")
    there = open_megatron(path)
    try:
        model = model_of_checkpoint(there, tokenizer, options, unused)
        family = choose_family(resolved(model), model_defaults())
        rows = family.rows(model.tie_embeddings, model.linear_bias)
        names = find_names(there, rows)
        metadata = write_checkpoint(there, run, model, names, tokenizer, options, unused)
    finally:
        there.close()
    write_blocks(run, model, options.parallel, metadata["tokenizer"]["path"])
    return run.checkpoint(0), metadata


def arguments_of(there: MegatronCheckpoint) -> dict[str, Any]:
    """Return the arguments a checkpoint was trained with."""
    found = there.common.get("args")
    if found is None:
        raise ConversionError(
            f"{there.folder}: holds no arguments (args), which say what model it is; Megatron-LM's save_checkpoint writes them"
        )
    return vars(found)


def model_of_checkpoint(there: MegatronCheckpoint, tokenizer: TokenizerMetadata, options: ImportOptions, unused: str) -> Model:
    """Return the recipe's model block, its vocabulary padded as Megatron-LM padded it."""
    arguments = arguments_of(there)
    block = model_of_arguments(arguments, there.folder, unused)
    padded = arguments.get("padded_vocab_size")
    if not isinstance(padded, int) or padded < tokenizer.vocab_size:
        raise ConversionError(
            f"{there.folder}: an embedding of {padded} rows (padded_vocab_size), the tokenizer {tokenizer.path} has {tokenizer.vocab_size} ids;"
            " give the tokenizer it was trained with"
        )
    multiples = (
        arguments.get("make_vocab_size_divisible_by", 128) * arguments.get("tensor_model_parallel_size", 1),
        options.parallel.tensor,
    )
    fits = (m for m in multiples if -(-tokenizer.vocab_size // m) * m == padded and m % options.parallel.tensor == 0)
    multiple = next(fits, None)
    if multiple is None:  # another tokenizer's padding: every row counts
        block |= {"vocab_size": padded}
    return fitting_model(block | {"vocab_padding_multiple": multiple or options.parallel.tensor}, options.parallel, there.folder)


def find_names(there: MegatronCheckpoint, rows: tuple[Row, ...]) -> dict[Row, str]:
    """Return row -> name in the checkpoint, of the local or the Transformer Engine layer; what is missing or unknown is named."""
    known, faults = there.names(), []
    names = {row: next((name for name in row.stacked_names if name in known), "") for row in rows}
    faults += [f"{row.stacked_names[-1]} is missing" for row, name in names.items() if not name]
    faults += [f"{name}: unknown tensor" for name in sorted(known - set(names.values())) if "_extra_state" not in name]
    if faults:
        raise ConversionError(f"{there.folder}: " + "\n  ".join([f"{len(faults)} faults", *faults]))
    return names


def write_checkpoint(
    there: MegatronCheckpoint,
    run: RunFolder,
    model: Model,
    names: dict[Row, str],
    tokenizer: TokenizerMetadata,
    options: ImportOptions,
    unused: str,
) -> dict:
    """Stream weights into the run's first checkpoint and return its metadata; it appears complete under its final name."""
    arguments, dimensions = arguments_of(there), Dimensions(model, model.ids(tokenizer.vocab_size))

    def parts(row: Row, index: StackIndex) -> Iterator[tuple[int, torch.Tensor]]:
        tensor, wanted = there.read(names[row], row, index), dimensions.megatron_shape(row)
        where = f"{names[row]} of layer {index[0]}" if index else names[row]
        if tuple(tensor.shape) != wanted:
            raise ConversionError(f"{there.folder}: {where} has shape {list(tensor.shape)}, its arguments make it {list(wanted)}")
        check_finite(f"{there.folder}: {where}", tensor)
        yield 0, tensor.contiguous()

    with publishing(run.checkpoint(0)) as partial:
        files = write_shards(partial, tuple(names), dimensions, parts, options.progress)
        kept, _ = keep_model_files(Path(tokenizer.path).parent, tokenizer, run)
        metadata = {
            "step": 0,
            "sequences_seen": 0,
            "tokens": 0,
            "model": as_plain(model),
            "tokenizer": asdict(replace(tokenizer, path=str(kept))),
            "imported_from": str(there.folder),
            "megatron": {name: plain(arguments.get(name)) for name in ("iteration", "consumed_train_samples", "seq_length", "seed")}
            | {"iteration": plain(there.common.get("iteration")), "unused_arguments": unused},
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": files,
        }
        write_metadata(partial, metadata)
    return metadata


def plain(value: Any) -> int | None:
    """Return a whole number, or None for what is none."""
    return value if isinstance(value, int) else None
