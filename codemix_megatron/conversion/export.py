"""Checkpoint -> Hugging Face folder, complete and checked under its final name or not there."""

import importlib.metadata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from codemix_megatron.conversion.checkpoint_source import CheckpointSource, choose_checkpoint, hugging_face_config
from codemix_megatron.conversion.model_card import write_model_card
from codemix_megatron.conversion.model_files import kept_tokenizer
from codemix_megatron.conversion.publishing import publishing
from codemix_megatron.conversion.safetensors_files import SafetensorsWriter
from codemix_megatron.conversion.tokenizer_files import check_tokenizer, write_tokenizer
from codemix_megatron.errors import ConversionError
from codemix_megatron.megatron.importing import import_megatron
from codemix_megatron.records.atomic import write_json
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["ExportOptions", "Exported", "export_run"]

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How to export."""

    dtype: str | None = None  # fp32, bf16 or fp16; default: that of the checkpoint
    family: str | None = None  # default: that of the model a run started from, else the first that holds the model
    max_shard_bytes: int = 5 * 10**9
    parity: bool = True
    manifests: list[CorpusManifest] = field(default_factory=list)  # corpora whose held-out documents parity is compared on
    progress: Callable[[str, int, int], None] = lambda what, done, total: None


@dataclass(frozen=True)
class Exported:
    """Where an export is and what export.json says of it."""

    folder: Path
    record: dict


def export_run(run: RunFolder, step: int | None = None, output: Path | None = None, options: ExportOptions | None = None) -> Exported:
    """Export one checkpoint of a run, newest by default, and check that the logits are the same.

    Raises ConversionError; nothing is left under the final name then. What a killed export left is removed first.
    """
    options = options or ExportOptions()
    source = CheckpointSource(choose_checkpoint(run, step), options.family)
    folder = Path(output) if output else run.export(source.metadata["step"])
    if folder.exists() and not (folder / "export.json").is_file():
        raise ConversionError(f"{folder}: there and not an export; give another folder or remove it")
    with publishing(folder, replace=True) as partial:
        record = fill(source, run, partial, options)
        write_json(partial / "export.json", record)
    return Exported(folder, record)


def fill(source: CheckpointSource, run: RunFolder, folder: Path, options: ExportOptions) -> dict:
    """Write weights, configuration, tokenizer and model card into `folder`; return export.json's content."""
    dtype = DTYPES[options.dtype] if options.dtype else None
    parameters = write_weights(source, folder, dtype, options)
    tokenizer = kept_tokenizer(run, source.tokenizer, source.origin)
    write_tokenizer(tokenizer, folder, source.context_length, source.origin)
    write_configuration(source, folder, dtype or source.dtype)
    record = {
        "step": source.metadata["step"],
        "tokens": source.metadata["tokens"],
        "family": source.family.model_type,
        "dtype": next(name for name, known in DTYPES.items() if known == (dtype or source.dtype)),
        "parameters": parameters,
        "parity": None,
    }
    if options.parity:
        import_megatron()
        from codemix_megatron.conversion.parity import check_parity  # both frameworks: not before they are needed

        check_tokenizer(tokenizer, folder)
        record["parity"] = check_parity(source, folder, options.manifests, dtype, options.progress)
    return write_model_card(run, folder, source.metadata, record)


def write_weights(source: CheckpointSource, folder: Path, dtype: torch.dtype | None, options: ExportOptions) -> int:
    """Stream all tensors into safetensors while the checkpoint's files are verified; return the number of parameters.

    Without a dtype, each tensor keeps that of the checkpoint.
    """
    plan = source.hugging_face_plan(dtype)
    with ThreadPoolExecutor(1) as pool, SafetensorsWriter(folder, plan, options.max_shard_bytes) as writer:
        verification = pool.submit(source.find_fault)
        try:
            for done, (name, tensor) in enumerate(source.tensors(), 1):
                writer.add(name, tensor)
                options.progress("tensors", done, len(plan))
        except ConversionError:
            if verification.result() is None:
                raise
        if fault := verification.result():
            raise ConversionError(f"{source.checkpoint}: {fault}; choose another step with RUN@STEP")
    return writer.parameters


def write_configuration(source: CheckpointSource, folder: Path, dtype: torch.dtype) -> None:
    """Write config.json and, where the weights are not those of a public model, generation_config.json.

    Special tokens and context are those of the model the run started from; none is made up that the source has not. Plain JSON:
    transformers' own classes load half of torch and 6 CPU-seconds of imports; parity reads the files through them.
    """
    tokens = {name: source.origin[name] for name in TOKEN_IDS if name in source.origin}
    if not source.origin:  # null, not nothing: transformers' classes have ids of their own for what config.json leaves out
        tokens = {**dict.fromkeys(TOKEN_IDS), "eos_token_id": source.tokenizer.end_of_document_id}
    if (begin := source.tokenizer.beginning_of_document_id) is not None:
        tokens["bos_token_id"] = begin
    written_for = {"transformers_version": importlib.metadata.version("transformers")}
    name = str(dtype).removeprefix("torch.")
    kind = {"model_type": source.family.model_type, "dtype": name, "torch_dtype": name, "use_cache": True}  # before 4.56: torch_dtype
    config = hugging_face_config(source.family, source.model, source.vocab_size)
    config["max_position_embeddings"] = max(source.context_length, config["max_position_embeddings"])
    write_json(folder / "config.json", dict(sorted({**config, **tokens, **kind, **written_for}.items())))
    if not source.origin:
        begins = {} if begin is None else {"bos_token_id": begin}
        write_json(folder / "generation_config.json", {**begins, "eos_token_id": tokens["eos_token_id"], **written_for})
