"""Hugging Face folder -> a checkpoint that any layout trains on from. No ranks, no model in memory."""

import itertools
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
import yaml

from codemix_megatron.checkpoint.metadata import read_metadata, write_metadata
from codemix_megatron.conversion.checkpoint_source import CheckpointSource
from codemix_megatron.conversion.dimensions import Dimensions
from codemix_megatron.conversion.model_files import keep_model_files, licence_of
from codemix_megatron.conversion.publishing import publishing
from codemix_megatron.conversion.safetensors_files import SafetensorsFolder, check_finite
from codemix_megatron.conversion.shard_files import write_shards
from codemix_megatron.conversion.tokenizer_files import check_tokenizer, write_tokenizer
from codemix_megatron.corpus.tokenizers import recipe_tokenizer
from codemix_megatron.errors import ConversionError
from codemix_megatron.families.configuration import family_of_config, read_config
from codemix_megatron.families.family import Family, Row, StackIndex, indexed_rows
from codemix_megatron.megatron.importing import import_megatron
from codemix_megatron.recipe.pretrained import PREFIX, pretrained_model
from codemix_megatron.recipe.schema import Model, Parallel, Recipe, as_plain
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.records.run_folder import CHECKPOINT_METADATA, RunFolder

__all__ = ["ImportOptions", "import_initial", "import_model", "write_blocks"]

ORIGIN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")
# Rows of the vocabulary go in parts of this size: a rank at another layout reads whole parts.
VOCABULARY_PART_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How to import."""

    parallel: Parallel = Parallel()  # the layout the recipe gets; the checkpoint itself has none
    parity: bool = True
    progress: Callable[[str, int, int], None] = lambda what, done, total: None


def import_model(folder: Path, run: RunFolder, model: Model, tokenizer: TokenizerMetadata, options: ImportOptions) -> tuple[Path, dict]:
    """Write the folder's weights as checkpoint step-0 of `run`, model.yaml and the tokenizer beside; return checkpoint and metadata.

    A recipe trains on from it with `initial_weights: RUN`. Raises ConversionError naming missing, extra or
    misshapen tensors one by one.
    """
    if run.checkpoints.exists() and any(run.checkpoints.glob("step-*")):
        raise ConversionError(f"{run.checkpoints}: there are checkpoints already; give an empty or new folder")
    weights = SafetensorsFolder(folder)
    check_tensors(weights, model, tokenizer)
    metadata = write_checkpoint(weights, run, run.checkpoint(0), model, tokenizer, options)
    write_blocks(run, model, options.parallel, metadata["tokenizer"]["path"])
    return run.checkpoint(0), metadata


def write_blocks(run: RunFolder, model: Model, parallel: Parallel, tokenizer: str) -> None:
    """Write model.yaml, the blocks of a recipe that trains on from a run's first checkpoint."""
    blocks = {
        "initial_weights": str(run.path),
        "model": without_defaults(model),
        "parallel": {"tensor": parallel.tensor, "pipeline": parallel.pipeline}
        | ({"sequence_parallel": True} if model.num_experts and parallel.tensor > 1 else {}),
        "tokenizer": {"path": tokenizer},
    }
    said = f"# The model's context is {model.sequence_length} tokens; sequence_length, what a training sequence has, may be less.\n"
    replace_text(run.path / "model.yaml", said + yaml.safe_dump(blocks, sort_keys=False))


def import_initial(recipe: Recipe, run: RunFolder, progress=lambda what, done, total: None) -> Path:
    """Convert the public model a recipe starts from into the run folder and compare logits, unless it is there; return the checkpoint.

    Only a run that has saved nothing yet asks for it; one that another folder was converted for, before, gives way.
    """
    assert recipe.initial_weights is not None and recipe.tokenizer is not None
    folder = Path(recipe.initial_weights.removeprefix(PREFIX))
    if (run.initial / CHECKPOINT_METADATA).is_file():
        if not is_of_another(run.initial, folder):
            return run.initial
        shutil.rmtree(run.initial)
    model, weights = pretrained_model(folder, recipe.parallel), SafetensorsFolder(folder)
    tokenizer = recipe_tokenizer(recipe.tokenizer).metadata
    check_tensors(weights, model, tokenizer)
    refuse_without_memory(weights)
    write_checkpoint(weights, run, run.initial, model, tokenizer, ImportOptions(progress=progress))
    return run.initial


def is_of_another(checkpoint: Path, folder: Path) -> bool:
    """Say whether a checkpoint was converted from another folder than this one; one that is gone is not asked for again."""
    there = read_metadata(checkpoint).get("imported_from")
    return there is not None and (folder / "config.json").is_file() and Path(there).resolve() != folder.resolve()


def refuse_without_memory(weights: SafetensorsFolder) -> None:
    """Raise ConversionError when one model in fp32 does not fit, as comparing logits needs."""
    needed = 4.5 * sum(math.prod(entry["shape"]) for entry in weights.entries.values())  # a little more while Megatron's is loaded
    free = psutil.virtual_memory().available
    if needed > free:
        raise ConversionError(
            f"{weights.folder}: comparing its logits takes {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} GB are free; on a machine with"
            " more, or without comparing (--no-parity), run `codemix import` once and say initial_weights: RUN",
            exit_code=1,
        )


def without_defaults(model: Model) -> dict:
    """Return the keys of a model block that differ from their defaults."""
    usual = as_plain(Model(num_layers=0, hidden_size=0, num_attention_heads=0, sequence_length=0))
    return {key: value for key, value in as_plain(model).items() if value != usual[key]}


def write_checkpoint(
    weights: SafetensorsFolder, run: RunFolder, checkpoint: Path, model: Model, tokenizer: TokenizerMetadata, options: ImportOptions
) -> dict:
    """Stream checked weights into a checkpoint of the run and return its metadata; it appears complete under its final name.

    What comes with the model beside its weights is kept in the run.
    """
    began, dimensions = time.perf_counter(), Dimensions(model, model.ids(tokenizer.vocab_size))
    family = family_of_config(read_config(weights.folder), weights.folder)
    with publishing(checkpoint) as partial:
        files = write_tensors(weights, family, dimensions, partial, options)
        kept, sums = keep_model_files(weights.folder, tokenizer, run)
        metadata = {
            "step": 0,
            "sequences_seen": 0,
            "tokens": 0,
            "model": as_plain(model),
            "tokenizer": asdict(replace(tokenizer, path=str(kept))),
            "imported_from": str(weights.folder),
            "hugging_face": origin_of(weights.folder, sums),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - began, 3),
            "files": files,
        }
        write_metadata(partial, metadata)
        if options.parity:
            metadata["parity"], first = compare(partial, weights.folder, options)
            metadata["hugging_face"] |= {"first_token_id": first}
            write_metadata(partial, metadata)
    return metadata


def origin_of(folder: Path, files: dict[str, str]) -> dict:
    """Return what a checkpoint's metadata says of the public model it came from; what its config.json does not say is not there."""
    config = read_config(folder)
    said = {name: config[name] for name in ORIGIN_KEYS if name in config}
    return {"family": config["model_type"], "name": folder.absolute().name, "licence": licence_of(folder), "files": files, **said}


def compare(checkpoint: Path, folder: Path, options: ImportOptions) -> tuple[dict, int | None]:
    """Check that an export would have the tokenizer's ids, and that both models give the same logits.

    Return the figures, and the token that the model's tokenizer puts before each text.
    """
    import_megatron()
    from codemix_megatron.conversion.parity import check_parity  # both frameworks: not before they are needed

    source = CheckpointSource(checkpoint)
    with tempfile.TemporaryDirectory(prefix="codemix-tokenizer-") as exported:
        write_tokenizer(source.tokenizer, Path(exported), source.context_length, source.origin)
        shutil.copyfile(folder / "config.json", Path(exported) / "config.json")  # transformers chooses by the family, too
        first = check_tokenizer(source.tokenizer, Path(exported))
    return check_parity(source, folder, [], None, options.progress), first


def write_tensors(
    weights: SafetensorsFolder, family: Family, dimensions: Dimensions, folder: Path, options: ImportOptions
) -> dict[str, dict]:
    """Write the tensors of a safetensors folder; return bytes and SHA-256 of each file for the metadata."""
    rows = family.rows(dimensions.model.tie_embeddings, dimensions.model.linear_bias)
    dtypes = {row: row_dtype(weights, row, dimensions.model) for row in rows}

    def parts(row: Row, index: StackIndex) -> Iterator[tuple[int, torch.Tensor]]:
        for first, part in parts_of(weights, dimensions, row, index):
            check_finite(" and ".join(row.names_at(index)), part)
            yield first, part.to(dtypes[row])

    return write_shards(folder, rows, dimensions, parts, options.progress)


def row_dtype(weights: SafetensorsFolder, row: Row, model: Model) -> torch.dtype:
    """Return the dtype that holds all tensors of a row exactly: theirs, where they agree."""
    there = itertools.product(*map(range, row.stack(model.num_layers, model.num_experts or 0)))
    found = {dtype for index in there for name in row.names_at(index) if (dtype := weights.dtype(name))}
    return found.pop() if len(found) == 1 else torch.float32


def parts_of(weights: SafetensorsFolder, dimensions: Dimensions, row: Row, index: StackIndex):
    """Yield (first row, tensor) of one Megatron tensor: the parts it is stored in, none of them large."""
    names = row.names_at(index)
    kind, length = row.dimensions[0], dimensions.megatron_shape(row)[0]
    if kind == "gate_up" and len(names) > 1:
        for number, name in enumerate(names):
            yield number * (length // 2), weights.read(name)
    elif kind == "vocabulary":
        have, width = weights.shape(names[0])
        dtype = weights.dtype(names[0])
        assert dtype is not None, "checked before anything is read"
        step = max(1, VOCABULARY_PART_BYTES // (width * dtype.itemsize))
        for first in range(0, have, step):
            yield first, weights.read(names[0], first, first + step)
        if length > have:  # padding rows
            yield have, torch.zeros(length - have, width, dtype=weights.dtype(names[0]))
    else:
        yield 0, dimensions.join(row, [weights.read(name) for name in names])


def check_tensors(weights: SafetensorsFolder, model: Model, tokenizer: TokenizerMetadata) -> None:
    """Raise ConversionError naming each missing, misshapen, unreadable or unknown tensor of the folder."""
    family = family_of_config(read_config(weights.folder), weights.folder)
    dimensions = Dimensions(model, model.ids(tokenizer.vocab_size))
    wanted: dict[str, tuple[int, ...]] = {}
    faults: list[str] = []
    for row, index in indexed_rows(family.rows(model.tie_embeddings, model.linear_bias), model.num_layers, model.num_experts or 0):
        wanted |= dict(zip(row.names_at(index), dimensions.hugging_face_shapes(row), strict=True))
    for name, shape in wanted.items():
        if name not in weights.entries:
            faults.append(f"{name} is missing")
        elif weights.shape(name) != shape:
            faults.append(f"{name} has shape {list(weights.shape(name))}, config.json makes it {list(shape)}")
        elif name.endswith("embed_tokens.weight") and weights.shape(name)[0] < tokenizer.vocab_size:
            faults.append(f"{name} has {weights.shape(name)[0]} rows, the tokenizer {tokenizer.vocab_size} ids; give the model's own")
        elif weights.dtype(name) is None:
            faults.append(f"{name} is {weights.entries[name]['dtype']}; F32, BF16 and F16 can be read")
    for name in sorted(set(weights.entries) - set(wanted)):
        if model.tie_embeddings and name == "lm_head.weight":
            faults += tied_fault(weights)
        elif not name.endswith("rotary_emb.inv_freq"):
            faults.append(f"{name}: unknown tensor")
    if faults:
        raise ConversionError(f"{weights.folder} as {family.model_type}: " + "\n  ".join([f"{len(faults)} faults", *faults]))


def tied_fault(weights: SafetensorsFolder) -> list[str]:
    """Compare an output layer that is there with the embedding it should be."""
    names = ("lm_head.weight", "model.embed_tokens.weight")
    if all(name in weights.entries for name in names) and torch.equal(*map(weights.read, names)):
        return []
    return ["lm_head.weight is not model.embed_tokens.weight, although tie_word_embeddings is true"]
