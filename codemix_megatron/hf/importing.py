"""Hugging Face Llama folder -> a checkpoint to train on from."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import torch
import yaml
from safetensors import safe_open

from codemix_megatron.checkpoint.writing import save_checkpoint
from codemix_megatron.errors import ConversionError
from codemix_megatron.hf.llama import MEGATRON_NAMES, from_hugging_face, model_from_config
from codemix_megatron.hf.parity import model_recipe
from codemix_megatron.model.build import build_model
from codemix_megatron.model.initial import sharded_tensors
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.recipe.schema import as_plain
from codemix_megatron.records.atomic import read_json, replace_text
from codemix_megatron.records.manifest import TokenizerCard
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["import_model"]


def import_model(folder: Path, run: RunFolder, tokenizer: TokenizerCard) -> Path:
    """Write the folder's weights as checkpoint step-0 of `run`, with model.yaml and the tokenizer beside; return the checkpoint.

    A recipe trains on from it with `initial_weights: RUN`. Raises ConversionError naming missing, extra or
    misshapen tensors one by one.
    """
    if run.checkpoints.exists() and any(run.checkpoints.iterdir()):
        raise ConversionError(f"{run.checkpoints}: there are checkpoints already; give an empty or new folder")
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError) as fault:
        raise ConversionError(f"{folder}/config.json: cannot be read ({fault}); give a Hugging Face model folder") from None
    vocab_size = config["vocab_size"]
    model = replace(model_from_config(config, str(folder)), vocab_padding_multiple=1 if vocab_size % 128 else 128)
    kept = run.path / Path(tokenizer.path).name
    run.path.mkdir(parents=True, exist_ok=True)
    if kept.absolute() != Path(tokenizer.path).absolute():
        shutil.copyfile(tokenizer.path, kept)
    card = {
        "step": 0,
        "sequences_seen": 0,
        "tokens": 0,
        "model": as_plain(model),
        "tokenizer": asdict(replace(tokenizer, path=str(kept), vocab_size=vocab_size)),
        "imported_from": str(folder),
    }
    weights = SafetensorsFolder(folder)
    with one_rank(device="cpu") as ranks, torch.no_grad():
        built = build_model(model_recipe(model), vocab_size, ranks.device)[0]
        fill(built, model, vocab_size, weights)
        save_checkpoint(run.checkpoint(0), {"model0": built.sharded_state_dict()}, card, ranks.device)
    replace_text(run.path / "model.yaml", yaml.safe_dump({"model": as_plain(model), "initial_weights": str(run.path)}, sort_keys=False))
    return run.checkpoint(0)


def fill(built, model, vocab_size: int, weights: "SafetensorsFolder") -> None:
    """Copy every tensor into the Megatron model; report all faults together."""
    roles = {name: role for role, names in MEGATRON_NAMES.items() for name in names}
    stacks, faults, shards = {}, [], sharded_tensors([built])
    for shard in shards:
        role = roles[shard.key]
        try:
            if role not in stacks:
                stacks[role] = from_hugging_face(model, vocab_size, role, weights.read)
            part = stacks[role][shard.global_offset[0]] if shard.prepend_axis_num else stacks[role]
            shape = tuple(shard.data.shape)
            start = shard.global_offset[shard.prepend_axis_num]
            shard.data.copy_(part[start : start + shape[0]] if part.shape[0] != shape[0] else part.reshape(shape))
        except (KeyError, RuntimeError, IndexError) as fault:
            faults.append(f"{shard.key}: {fault.args[0] if fault.args else fault}")
    extra = weights.unread() - ({"lm_head.weight"} if model.tie_embeddings else set())
    faults += [f"{name}: unknown tensor" for name in sorted(extra) if not name.endswith("rotary_emb.inv_freq")]
    if faults:
        raise ConversionError(f"{weights.folder}: " + "\n  ".join([f"{len(faults)} faults", *dict.fromkeys(faults)]))


class SafetensorsFolder:
    """The tensors of a Hugging Face folder by name; nothing but safetensors is read."""

    def __init__(self, folder: Path):
        self.folder = folder
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ConversionError(f"{folder}: holds no *.safetensors; pickled weights are not read, save them as safetensors")
        self.files, self.seen = {}, set()
        for path in files:
            with safe_open(path, "pt") as handle:
                self.files |= dict.fromkeys(handle.keys(), path)

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor; KeyError names it when it is missing."""
        if name not in self.files:
            raise KeyError(f"{name} is missing in {self.folder.name}")
        self.seen.add(name)
        with safe_open(self.files[name], "pt") as handle:
            return handle.get_tensor(name)

    def unread(self) -> set[str]:
        """Return the names that nobody asked for."""
        return set(self.files) - self.seen
