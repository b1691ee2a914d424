"""The same logits on both sides, or no export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from megatron.core import dist_checkpointing

from codemix_megatron.errors import ConversionError
from codemix_megatron.hf.source import CheckpointSource
from codemix_megatron.model.build import build_model
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.recipe.schema import Batch, Parallel, Recipe, Tokenizer

__all__ = ["check_parity", "megatron_model", "model_recipe"]

TOLERANCE = 1e-4  # fp32, largest absolute difference of logits
RANDOM_SEQUENCES = 2


def check_parity(source: CheckpointSource, folder: Path, real: np.ndarray, dtype: torch.dtype) -> dict:
    """Compare logits of the Megatron model and of the Hugging Face folder in fp32, on random and on real tokens.

    `real` is int64 [rows, length + 1], possibly empty. With a bf16 export, Megatron's weights are rounded to
    bf16 too. Returns the figures; raises ConversionError when they differ by more than the tolerance.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    length = source.model.sequence_length
    generator = np.random.default_rng(0)
    rows = generator.integers(0, source.vocab_size, (RANDOM_SEQUENCES, length))
    rows = torch.from_numpy(np.concatenate([rows, real[:, :length]]) if len(real) else rows)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with one_rank(device="cpu"), torch.no_grad():
        ours = megatron_model(source, dtype)
        differences = [largest_difference(ours, theirs, row[None], source.vocab_size) for row in rows]
    largest = max(differences)
    figures = {
        "largest_logit_difference": largest,
        "largest_on_random_tokens": max(differences[:RANDOM_SEQUENCES]),
        "largest_on_real_tokens": max(differences[RANDOM_SEQUENCES:], default=None),
        "tolerance": TOLERANCE,
        "tokens_compared": rows.numel(),
        "real_tokens": len(real) > 0,
    }
    if not largest <= TOLERANCE:
        raise ConversionError(
            f"{folder}: logits differ by up to {largest:.2e}, at most {TOLERANCE:g} is allowed; nothing was exported", exit_code=1
        )
    return figures


def largest_difference(ours, theirs, row: torch.Tensor, vocab_size: int) -> float:
    """Return the largest absolute difference of logits over one sequence [1, length]."""
    positions = torch.arange(row.shape[1])[None]
    a = ours(row, positions, None)[..., :vocab_size].float()
    b = theirs(row).logits.float()
    return float((a - b).abs().max())


def megatron_model(source: CheckpointSource, dtype: torch.dtype) -> torch.nn.Module:
    """Return the checkpoint's model on one rank, fp32, its weights rounded to `dtype` first."""
    model = build_model(model_recipe(source.model), source.vocab_size, torch.device("cpu"))[0].eval()
    state = {"model0": model.sharded_state_dict()}
    model.load_state_dict(dist_checkpointing.load(state, str(source.checkpoint), validate_access_integrity=False)["model0"])
    return model.to(dtype).float()


def model_recipe(model) -> Recipe:
    """Return a recipe that holds nothing but a model, for building it on one rank in fp32."""
    return Recipe(
        name="",
        model=replace(model, precision="fp32"),
        parallel=Parallel(device="cpu"),
        batch=Batch(global_sequences=1),
        tokenizer=Tokenizer(path=""),
        corpora={},
        phases=(),
    )
