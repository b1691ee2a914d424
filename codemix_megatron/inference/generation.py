"""Continuing prompts until a stop sequence, greedily or by sampling, in batches that shrink as texts end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from codemix_megatron.errors import EvaluationError

__all__ = ["CachedDecoder", "RereadingDecoder", "Sampling", "cut_at_stop", "generate"]

LOOK_BACK = 8  # tokens decoded beyond a stop sequence's length: a character may be spread over several


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose tokens and when to end. Temperature 0 is greedy."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 1234
    stop_after_text: bool = False  # a stop sequence counts only once something but white space stands before it
    stop_after: str = ""  # and only after the first of these, as a line break and `def `; the beginning counts as a line break


class CachedDecoder:
    """Continues prompts with a Hugging Face model and its key/value cache; prompts end together."""

    def __init__(self, model, prompts: list[list[int]], device: str):
        self.model, length = model, max(map(len, prompts))
        self.inputs = torch.zeros(len(prompts), length, dtype=torch.long, device=device)
        self.seen = torch.zeros_like(self.inputs)
        for row, prompt in enumerate(prompts):
            self.inputs[row, length - len(prompt) :] = torch.tensor(prompt)
            self.seen[row, length - len(prompt) :] = 1
        self.cache: Any = None

    @torch.inference_mode()
    def logits(self) -> torch.Tensor:
        """Return what comes next, float32 [rows, vocabulary]."""
        positions = (self.seen.cumsum(dim=1) - 1).clamp(min=0)[:, -self.inputs.shape[1] :]
        output = self.model(
            input_ids=self.inputs, attention_mask=self.seen, position_ids=positions, past_key_values=self.cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        self.cache = output.past_key_values
        return output.logits[:, -1].float()

    def append(self, ids: torch.Tensor) -> None:
        """Add one token to each row."""
        self.inputs = ids[:, None]
        self.seen = torch.cat([self.seen, torch.ones_like(self.inputs)], dim=1)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all other rows."""
        self.inputs, self.seen = self.inputs[rows], self.seen[rows]
        self.cache.batch_select_indices(rows)


class RereadingDecoder:
    """Continues prompts by reading them again for every token: for models without a cache. `next_logits(rows)` -> [rows, vocabulary]."""

    def __init__(self, next_logits: Callable, prompts: list[list[int]]):
        self.next_logits, self.rows = next_logits, [list(prompt) for prompt in prompts]

    def logits(self) -> torch.Tensor:
        """Return what comes next, float32 [rows, vocabulary]."""
        return self.next_logits(self.rows)

    def append(self, ids: torch.Tensor) -> None:
        """Add one token to each row."""
        for row, token in zip(self.rows, ids.tolist(), strict=True):
            row.append(token)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all other rows."""
        self.rows = [self.rows[i] for i in rows.tolist()]


def generate(model, prompts: list[list[int]], sampling: Sampling, on_done: Callable[[int], None] = lambda number: None) -> list[str]:
    """Return the continuation of each prompt (token ids), cut before the first stop sequence or end of text.

    Every copy of a model calls this with the same prompts; each continues its share and all get all texts. Prompts
    too long to leave room for `max_tokens` lose their beginning. A sample depends on seed and prompt number only.
    """
    room = model.max_length - sampling.max_tokens
    if room < 1:
        raise EvaluationError(
            f"{sampling.max_tokens} new tokens leave no room for a prompt in the {model.max_length} the model sees; set fewer"
        )
    prompts = [prompt[-room:] or [model.prefix_id] for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    texts: dict[int, str] = {}
    for batch in batches_of(model, prompts, order, sampling.max_tokens)[model.share :: model.shares]:
        texts |= zip(batch, generate_batch(model, [prompts[n] for n in batch], batch, sampling), strict=True)
        on_done(model.shares * len(batch))
    for others in model.gather(texts):
        texts |= others
    return [texts[number] for number in range(len(prompts))]


def batches_of(model, prompts, order: list[int], max_tokens: int) -> list[list[int]]:
    """Cut the order of prompts into batches that fit; the first of a batch is its longest."""
    batches, at = [], 0
    while at < len(order):
        size = model.room_for(len(prompts[order[at]]) + max_tokens, 1)
        batches.append(order[at : at + size])
        at += size
    return batches


def generate_batch(model, prompts: list[list[int]], numbers: list[int], sampling: Sampling) -> list[str]:
    """Continue prompts together; rows that have ended leave the batch."""
    decoder = model.decoder(prompts)
    made: list[list[int]] = [[] for _ in prompts]
    draws = [torch.Generator().manual_seed(sampling.seed * 1_000_003 + number) for number in numbers]
    alive = list(range(len(prompts)))
    for step in range(sampling.max_tokens):
        chosen = choose(decoder.logits(), sampling, [draws[row] for row in alive])
        going = []
        for row_of_batch, (row, token) in enumerate(zip(alive, chosen.tolist(), strict=True)):
            made[row].append(token)
            if token != model.end_id and not has_stopped(model, made[row], sampling):
                going.append(row_of_batch)
        if not going or step + 1 == sampling.max_tokens:
            break
        decoder.append(chosen)
        if len(going) < len(alive):
            decoder.keep(torch.tensor(going, device=chosen.device))
            alive = [alive[row_of_batch] for row_of_batch in going]
    return [finish(model, prompt, ids, sampling) for prompt, ids in zip(prompts, made, strict=True)]


def choose(logits: torch.Tensor, sampling: Sampling, draws: list[torch.Generator]) -> torch.Tensor:
    """Return the next token of each row; sampling takes the smallest set of tokens that holds `top_p` of the probability."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    shares, ids = torch.softmax(logits / sampling.temperature, dim=-1).sort(dim=-1, descending=True)
    shares = shares.masked_fill(shares.cumsum(dim=-1) - shares >= sampling.top_p, 0).cpu()
    drawn = torch.stack([torch.multinomial(row, 1, generator=draw) for row, draw in zip(shares, draws, strict=True)])
    return ids.gather(1, drawn.to(ids.device)).squeeze(1)


def has_stopped(model, ids: list[int], sampling: Sampling) -> bool:
    """Say whether a stop sequence has come up, looking at the last tokens only."""
    if not sampling.stop:
        return False
    tail = model.decode_without_end(ids[-(max(map(len, sampling.stop)) + LOOK_BACK) :])
    if not any(stop in tail for stop in sampling.stop):
        return False
    text = model.decode_without_end(ids)
    return cut_at_stop(text, sampling) != text


def finish(model, prompt: list[int], ids: list[int], sampling: Sampling) -> str:
    """Return the text of generated ids, without what ended it.

    It is spelled together with the end of its prompt: alone, some tokenizers drop its first space, and with it the
    indentation of a function's body.
    """
    if ids and ids[-1] == model.end_id:
        ids = ids[:-1]
    before = model.decode_without_end(prompt[-LOOK_BACK:])
    text = model.decode_without_end([*prompt[-LOOK_BACK:], *ids])
    return cut_at_stop(text[len(before) :] if text.startswith(before) else model.decode_without_end(ids), sampling)


def cut_at_stop(text: str, sampling: Sampling) -> str:
    """Return the text before the first stop sequence that counts."""
    start = len(text) - len(text.lstrip()) if sampling.stop_after_text else 0
    if sampling.stop_after:
        begin = f"\n{text}".find(sampling.stop_after)
        if begin < 0:
            return text
        start = max(start, begin + len(sampling.stop_after) - 1)
    found = [begin for stop in sampling.stop if (begin := text.find(stop, start)) >= 0]
    return text[: min(found)] if found else text
