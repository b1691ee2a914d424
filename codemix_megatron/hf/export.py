"""Checkpoint -> Hugging Face folder, complete and checked under its final name or not there."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from codemix_megatron.errors import ConversionError
from codemix_megatron.hf.llama import hugging_face_config, to_hugging_face
from codemix_megatron.hf.model_card import model_card
from codemix_megatron.hf.parity import check_parity
from codemix_megatron.hf.source import CheckpointSource, choose_checkpoint
from codemix_megatron.hf.tokenizer_files import write_tokenizer
from codemix_megatron.mixture.reading import SequenceReader
from codemix_megatron.records.atomic import partial_path, replace_text, write_json
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["Exported", "export_run"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHARD_BYTES = 4 * 2**30
REAL_SEQUENCES_PER_CORPUS = 2


@dataclass(frozen=True)
class Exported:
    """Where an export is and what export.json says of it."""

    folder: Path
    record: dict


def export_run(run: RunFolder, step: int | None = None, output: Path | None = None, dtype: str = "fp32", manifests=()) -> Exported:
    """Export one checkpoint of a run, newest by default, and check that the logits are the same.

    `manifests` are corpora whose held-out documents serve as real tokens. Raises ConversionError; nothing
    is left under the final name then.
    """
    source = CheckpointSource(choose_checkpoint(run, step))
    folder = Path(output) if output else run.export(source.card["step"])
    if folder.exists() and not (folder / "export.json").is_file():
        raise ConversionError(f"{folder}: there and not an export; give another --output or remove it")
    partial = partial_path(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        record = fill(source, run, partial, dtype, list(manifests))
        write_json(partial / "export.json", record)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
    except OSError as fault:
        shutil.rmtree(partial, ignore_errors=True)
        raise ConversionError(f"{folder}: could not be written ({fault.strerror or fault})", exit_code=1) from fault
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Exported(folder, record)


def fill(source: CheckpointSource, run: RunFolder, folder: Path, dtype: str, manifests: list[CorpusManifest]) -> dict:
    """Write weights, configuration, tokenizer and card into `folder`; return export.json's content."""
    from transformers import GenerationConfig, LlamaConfig

    parameters = write_weights(converted(source, DTYPES[dtype]), folder)
    end = source.tokenizer.end_of_document_id
    torch_name = str(DTYPES[dtype]).removeprefix("torch.")
    LlamaConfig(**hugging_face_config(source.model, source.vocab_size, end, torch_name)).save_pretrained(folder)
    GenerationConfig(bos_token_id=end, eos_token_id=end, pad_token_id=end).save_pretrained(folder)
    write_tokenizer(source.tokenizer, folder, source.model.sequence_length)
    record = {
        "step": source.card["step"],
        "tokens": source.card["tokens"],
        "dtype": dtype,
        "parameters": parameters,
        "parity": check_parity(source, folder, real_tokens(manifests, source.model.sequence_length), DTYPES[dtype]),
    }
    replace_text(folder / "README.md", model_card(run, source.card, record))
    return record


def converted(source: CheckpointSource, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every Hugging Face tensor, one Megatron tensor in memory at a time."""
    for role in source.names:
        for name, tensor in to_hugging_face(source.model, source.vocab_size, role, source.read(role)):
            yield name, tensor.to(dtype).contiguous()


def write_weights(tensors: Iterator[tuple[str, torch.Tensor]], folder: Path) -> int:
    """Write safetensors shards of at most 4 GiB with an index; return the number of parameters."""
    shards, held, held_bytes, parameters = [], {}, 0, 0
    for name, tensor in tensors:
        if held and held_bytes + tensor.nbytes > SHARD_BYTES:
            shards.append(write_shard(held, folder, len(shards)))
            held, held_bytes = {}, 0
        held[name] = tensor.clone()  # a view would keep all layers of its stack alive
        held_bytes += tensor.nbytes
        parameters += tensor.numel()
    shards.append(write_shard(held, folder, len(shards)))
    name_shards(shards, folder)
    return parameters


def write_shard(tensors: dict[str, torch.Tensor], folder: Path, number: int) -> dict:
    """Write one shard under a number; return its path, names and bytes."""
    path = folder / f"shard-{number}.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    return {"path": path, "names": list(tensors), "bytes": sum(t.nbytes for t in tensors.values())}


def name_shards(shards: list[dict], folder: Path) -> None:
    """Give shards the names transformers looks for, now that their number is known, and write the index."""
    if len(shards) == 1:
        os.rename(shards[0]["path"], folder / "model.safetensors")
        return
    where = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        os.rename(shard["path"], folder / name)
        where |= dict.fromkeys(shard["names"], name)
    index = {"metadata": {"total_size": sum(s["bytes"] for s in shards)}, "weight_map": where}
    replace_text(folder / "model.safetensors.index.json", json.dumps(index, indent=2))


def real_tokens(manifests: list[CorpusManifest], sequence_length: int) -> np.ndarray:
    """Return a few held-out sequences of every corpus, int64 [rows, length + 1]."""
    reader = SequenceReader(manifests, sequence_length)
    rows = [reader.held_out(i, REAL_SEQUENCES_PER_CORPUS) for i in range(len(manifests))]
    return np.concatenate(rows) if rows else np.empty((0, sequence_length + 1), dtype=np.int64)
