"""Queries as rows of one forward pass: a context followed by its continuations side by side.

    context   c c c c
    branches          a a a   b b        each sees the context and itself; positions go on from the context
    read              ^ at the last token of the context and at every token of a branch but the last

Exact but for rounding, for attention with positions (rotary or learned) that come from `position_ids`.
"""

from dataclasses import dataclass

import torch

from codemix_megatron.inference.queries import Likelihood, Query

__all__ = ["Rows", "lay_out", "read_logits", "sum_by_continuation", "token_likelihoods"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Inputs and positions [rows, length]; mask None (causal) or additive [rows, 1, length, length].

    `reads` has for each row and continuation the indices along the length where its tokens are predicted.
    """

    inputs: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor | None
    logits_kept: int  # at the end of each row
    reads: list[list[list[int]]]
    targets: list[tuple[tuple[int, ...], ...]]


def lay_out(queries: list[Query], dtype: torch.dtype) -> Rows:
    """Return the rows of a batch.

    Rows end together, so that only the last logits need to be computed. Where no row branches and most of each row
    is predicted, they begin together instead: causal attention then needs no mask.
    """
    widths = [len(q.context) + sum(len(c) - 1 for c in q.continuations) for q in queries]
    length = max(widths)
    kept = max(w - len(q.context) + 1 for w, q in zip(widths, queries, strict=True))
    branching = any(len(q.continuations) > 1 and any(len(c) > 1 for c in q.continuations) for q in queries)
    begin_together = not branching and (2 * kept > length or min(widths) == length)
    inputs = torch.zeros(len(queries), length, dtype=torch.long)
    positions = torch.zeros_like(inputs)
    branch = torch.full_like(inputs, -1)  # -1 padding, 0 context, from 1 on the continuations
    reads = []
    for row, (query, width) in enumerate(zip(queries, widths, strict=True)):
        start = 0 if begin_together else length - width
        reads.append(fill_row(query, start, inputs[row], positions[row], branch[row]))
    mask = None if begin_together else visibility(branch, dtype)
    kept = length if begin_together and kept < length and min(widths) < length else kept
    return Rows(inputs=inputs, positions=positions, mask=mask, logits_kept=kept, reads=reads, targets=[q.continuations for q in queries])


def fill_row(query: Query, start: int, inputs, positions, branch) -> list[list[int]]:
    """Write one query into a row from `start` on; return where each continuation's tokens are predicted."""
    at = start + len(query.context)
    inputs[start:at] = torch.tensor(query.context)
    positions[start:at] = torch.arange(len(query.context))
    branch[start:at] = 0
    reads, last = [], at - 1
    for number, continuation in enumerate(query.continuations, 1):
        size = len(continuation) - 1
        if size:
            inputs[at : at + size] = torch.tensor(continuation[:-1])
            positions[at : at + size] = torch.arange(len(query.context), len(query.context) + size)
            branch[at : at + size] = number
        reads.append([last, *range(at, at + size)])
        at += size
    return reads


def visibility(branch: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the additive attention mask of rows whose positions belong to context (0), branches (1...) or padding (-1)."""
    length = branch.shape[1]
    keys, queries = branch[:, None, :], branch[:, :, None]
    sees = torch.ones(length, length, dtype=torch.bool).tril() & ((keys == 0) | (keys == queries))
    sees |= torch.eye(length, dtype=torch.bool)  # a softmax over nothing would be NaN
    sees &= (keys >= 0) | torch.eye(length, dtype=torch.bool)
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
    return mask[:, None]


def read_logits(logits: torch.Tensor, rows: Rows) -> list[list[Likelihood]]:
    """Return the likelihoods of all continuations from logits [rows, kept, vocabulary]."""
    offset, kept = rows.inputs.shape[1] - logits.shape[1], logits.shape[1]
    where: list[int] = []
    targets: list[int] = []
    for row, (reads, continuations) in enumerate(zip(rows.reads, rows.targets, strict=True)):
        for positions, continuation in zip(reads, continuations, strict=True):
            where += [row * kept + position - offset for position in positions]
            targets += continuation
    picked = logits.flatten(0, 1)[torch.tensor(where, device=logits.device)].float()
    nats, greedy = token_likelihoods(picked, torch.tensor(targets, device=logits.device))
    return sum_by_continuation(nats, greedy, rows.targets)


def sum_by_continuation(nats: torch.Tensor, greedy: torch.Tensor, targets) -> list[list[Likelihood]]:
    """Return the likelihoods of whole continuations from those of their tokens, in the order of `targets`."""
    values: list[list[Likelihood]] = []
    at = 0
    for continuations in targets:
        values.append([])
        for continuation in continuations:
            part = slice(at, at + len(continuation))
            values[-1].append(Likelihood(float(nats[part].sum()), bool(greedy[part].all())))
            at += len(continuation)
    return values


def token_likelihoods(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probability (float64) and being-the-largest of each target, from float32 logits [tokens, vocabulary]."""
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return -losses.double().cpu(), (logits.argmax(dim=-1) == targets).cpu()
