"""The same logits and the same continuation on both sides, or no export.

One model is in memory at a time, in fp32: first Hugging Face's, whose logits are kept, then Megatron's. Megatron's is
loaded by its own dist_checkpointing, not by the converter's reader, which would be wrong on both sides alike.
"""

import gc
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core import dist_checkpointing

from codemix_megatron.conversion.checkpoint_source import CheckpointSource
from codemix_megatron.conversion.sample_texts import SAMPLE_TEXTS
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.errors import CodemixError, ConversionError
from codemix_megatron.mixture.sequence_reader import SequenceReader
from codemix_megatron.model.build import build_model
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.recipe.schema import Batch, Parallel, Recipe, Tokenizer

__all__ = ["check_megatron_weights", "check_parity", "megatron_model", "model_recipe"]

TOLERANCE = 1e-4  # largest absolute difference of logits in fp32
ROUNDINGS = 4  # where fp32 itself is coarser: times that rounding moves a logit of one program
LONGEST_ROW = 512
SEQUENCES_PER_CORPUS = 2
KEPT_LOGITS_BYTES = 2**28
PROMPT_TOKENS, NEW_TOKENS, PROMPTS = 24, 64, 2


def check_parity(
    source: CheckpointSource, folder: Path, manifests, dtype: torch.dtype | None, progress=lambda what, done, total: None
) -> dict:
    """Compare the checkpoint's model with that of a Hugging Face folder, both computing in fp32; return the figures.

    Rows are held-out documents of `manifests`, or else texts that come with this package, and one row of random ids. Raises
    ConversionError when logits differ by more than the tolerance (see `allowed_difference`) or one of the 64 tokens that follow greedily is another
    (see `count_strays`).
    With a dtype narrower than the checkpoint's (None is that of each weight), weights are rounded alike on both sides for this, and the difference to
    the weights as they were is held against `rounding_tolerance`.
    """
    rows, what = choose_rows(source, manifests)
    theirs, continued, cached = hugging_face_side(folder, rows, source.model.sequence_length, progress)
    rounds = source.is_rounded_by(dtype)
    with one_rank(device="cpu"), torch.no_grad():
        ours = megatron_model(source)
        unrounded = largest_difference(ours, rows, theirs, source.vocab_size, progress) if rounds else None
        if rounds:
            ours = ours.to(dtype).float()
        difference = largest_difference(ours, rows, theirs, source.vocab_size, progress)
        behind = torch.cat([behind_own_choice(ours, row, prompt, source.vocab_size) for row, prompt in continued])
    del ours
    allowed = allowed_difference(max(difference, cached), folder, rows, theirs, progress)
    figures = {
        "largest_logit_difference": difference,
        "cache_difference": cached,
        **allowed,
        "largest_logit": max(float(logits.abs().max()) for logits in theirs),
        "tokens_compared": sum(map(len, rows)),
        "compared_on": what,
        "greedy_tokens": len(behind),
        "greedy_tokens_different": count_strays(behind, difference, min(cached, allowed["tolerance"])),
    }
    if rounds and dtype:
        figures |= {"rounding_difference": unrounded, "rounding_tolerance": rounding_tolerance(source, dtype, theirs)}
    judge(figures, folder)
    return figures


def judge(figures: dict, folder: Path) -> None:
    """Raise ConversionError naming what is not equal; NaN is not."""
    faults = []
    for found, allowed in (("largest_logit_difference", "tolerance"), ("rounding_difference", "rounding_tolerance")):
        if found in figures and not figures[found] <= figures[allowed]:
            faults.append(f"logits differ by up to {figures[found]:.2e}, at most {figures[allowed]:.2g} is allowed")
    if figures["greedy_tokens_different"]:
        faults.append(f"{figures['greedy_tokens_different']} of {figures['greedy_tokens']} tokens that follow greedily are others")
    if faults:
        raise ConversionError(f"{folder}: {'; '.join(faults)}; nothing was written", exit_code=1)


def allowed_difference(difference: float, folder: Path, rows: list[torch.Tensor], theirs: list[torch.Tensor], progress) -> dict:
    """Return the tolerance, and, where logits are further apart than usual, how far rounding to fp32 moves those of Hugging Face alone.

    Trained models may hold values of tens of thousands in the residual stream ("massive activations", arXiv:2402.17762), of which
    fp32 keeps three digits after the point. What that does is measured: the same model computes the same rows in fp64.
    """
    if not difference > TOLERANCE:
        return {"tolerance": TOLERANCE}
    gc.collect()
    exact = logits_of(hugging_face_model(folder, torch.float64), rows, progress)
    rounding = max(float((a - b).abs().max()) for a, b in zip(exact, theirs, strict=True))
    return {"tolerance": max(TOLERANCE, ROUNDINGS * rounding), "fp32_rounding": rounding}


def rounding_tolerance(source: CheckpointSource, dtype: torch.dtype, logits: list[torch.Tensor]) -> float:
    """Return how far rounded weights may move a logit.

    Rounding changes a weight by at most eps / 2 of itself, so the output of each of the 2 x layers + 1 blocks that add up
    to the logits by about eps / 2 of its size, independently: sqrt(2 x layers + 1) x eps / 2 x the spread of the logits.
    The largest of a million such errors is five times as large, and errors of early layers grow on the way: twice that.
    """
    spread = max(float(rows.std()) for rows in logits)
    return 10 * math.sqrt(2 * source.model.num_layers + 1) * torch.finfo(dtype).eps / 2 * spread


def choose_rows(source: CheckpointSource, manifests) -> tuple[list[torch.Tensor], str]:
    """Return rows of token ids to compare on, as many as their logits may take memory for, and what they are."""
    length = min(source.model.sequence_length, LONGEST_ROW)
    usable = [m for m in manifests if m.tokenizer.sha256 == source.tokenizer.sha256 and m.held_out_tokens > length]
    if usable:
        reader, what = SequenceReader(usable, length), "held-out documents"
        rows = [row for i in range(len(usable)) for row in reader.held_out(i, SEQUENCES_PER_CORPUS)[:, :length]]
    else:
        rows = encoded_samples(source)
        what = "sample texts" if rows else "random ids"
    rows.append(np.random.default_rng(0).integers(0, source.vocab_size, min(length, 64)))
    left, chosen = max(KEPT_LOGITS_BYTES // (4 * source.vocab_size), 64), []
    for row in rows[-1:] + rows[:-1]:
        chosen.append(torch.from_numpy(np.array(row[: min(length, left)], dtype=np.int64)))
        left -= len(chosen[-1])
        if left < 8:
            break
    return chosen[1:] + chosen[:1] if len(chosen) > 1 else chosen, what


def encoded_samples(source: CheckpointSource) -> list[np.ndarray]:
    """Return the package's texts as ids; without a readable tokenizer there are none."""
    try:
        tokenizer = load_tokenizer(source.tokenizer.path)
    except CodemixError:
        return []
    return [np.array([source.tokenizer.end_of_document_id, *ids]) for ids in tokenizer.encode_batch(list(SAMPLE_TEXTS))]


@torch.no_grad()
def hugging_face_side(folder: Path, rows: list[torch.Tensor], sequence_length: int, progress) -> tuple[list, list, float]:
    """Return logits of each row [length, vocabulary], continuations (ids with those of the prompt, length of the prompt), and what a cache changes.

    That is the largest difference between logits of a greedy continuation as it is made, with cached keys and values, and those of one pass over it.
    """
    model = hugging_face_model(folder, torch.float32)
    logits, continued, cached = logits_of(model, rows, progress), [], 0.0
    for row in rows[:PROMPTS]:
        prompt = row[: min(PROMPT_TOKENS, max(1, sequence_length - NEW_TOKENS))]
        new = min(NEW_TOKENS, sequence_length - len(prompt))
        made = model.generate(
            prompt[None], attention_mask=torch.ones_like(prompt)[None], max_new_tokens=new, min_new_tokens=new, do_sample=False,
            num_beams=1, eos_token_id=None, repetition_penalty=1.0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        (row,) = made.sequences
        in_one_pass = model(row[None]).logits[0, len(prompt) - 1 : -1]
        cached = max(cached, float((torch.cat(made.logits) - in_one_pass).abs().max()))
        continued.append((row, len(prompt)))
    del model
    gc.collect()
    return logits, continued, cached


def hugging_face_model(folder: Path, dtype: torch.dtype) -> Any:
    """Return the model of a folder, computing in a dtype."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    computing = {"experts_implementation": "eager"} if dtype == torch.float64 else {}  # PyTorch's grouped product of experts knows no fp64
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, **computing).eval()


@torch.no_grad()
def logits_of(model, rows: list[torch.Tensor], progress) -> list[torch.Tensor]:
    """Return the logits [length, vocabulary] of each row, in the model's dtype."""
    logits = []
    for done, row in enumerate(rows, 1):
        logits.append(model(row[None]).logits[0])
        progress("parity: Hugging Face", done, len(rows))
    return logits


def largest_difference(model, rows, theirs, vocab_size: int, progress) -> float:
    """Return the largest absolute difference of logits over all rows."""
    largest = 0.0
    for done, (row, logits) in enumerate(zip(rows, theirs, strict=True), 1):
        apart = float((megatron_logits(model, row, vocab_size) - logits).abs().max())
        if math.isnan(apart):  # max() would take the other number
            return apart
        largest = max(largest, apart)
        progress("parity: Megatron", done, len(rows))
    return largest


def megatron_logits(model, row: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Return logits [length, vocabulary] of one row, without padding."""
    return model(row[None], torch.arange(len(row))[None], None)[0, :, :vocab_size].float()


def behind_own_choice(model, row: torch.Tensor, prompt: int, vocab_size: int) -> torch.Tensor:
    """Return how far the logit of each token after the prompt is below that of Megatron's own choice there: one pass shows all."""
    logits = megatron_logits(model, row, vocab_size)[prompt - 1 : -1]
    return logits.max(dim=1).values - logits.gather(1, row[prompt:, None])[:, 0]


def count_strays(behind: torch.Tensor, difference: float, cached: float) -> int:
    """Count the tokens that are not Megatron's own choice; while each is, its own greedy continuation is this row.

    Two logits that are closer than both models' are, or than Hugging Face's own are with its cache and without it, count as one: which of them is
    the larger is a matter of the order of additions, and so of the processor.
    """
    return int((behind > 2 * (difference + cached)).sum())


def megatron_model(source: CheckpointSource) -> Any:
    """Return the checkpoint's model on one rank in fp32."""
    model: Any = build_model(model_recipe(source.model), source.tokenizer.vocab_size, torch.device("cpu"))[0].eval()
    load_weights(model, source.checkpoint)
    return model


def load_weights(model: Any, checkpoint: Path) -> None:
    """Load a checkpoint as megatron-core does."""
    state = {"model0": model.sharded_state_dict()}
    model.load_state_dict(dist_checkpointing.load(state, str(checkpoint), validate_access_integrity=False)["model0"])


def check_megatron_weights(source: CheckpointSource, folder: Path, dtype: torch.dtype | None) -> int:
    """Load a checkpoint and what was made of it with megatron-core, bit for bit the same weights; return how many tensors there are.

    Raises ConversionError naming those that differ. A dtype rounds them on both sides.
    """
    with one_rank(device="cpu"), torch.no_grad():
        model = megatron_model(source)
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        for weight in model.parameters():
            weight.fill_(math.nan)
        load_weights(model, folder)
        rounded = {name: weight if dtype is None else weight.to(dtype).float() for name, weight in before.items()}
        different = [name for name, weight in model.named_parameters() if not torch.equal(weight, rounded[name])]
    if different:
        raise ConversionError(
            f"{folder}: megatron-core loads other weights from it: {', '.join(different[:5])}; nothing was written", exit_code=1
        )
    return len(before)


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
