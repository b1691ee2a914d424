"""What a model is asked, whatever it is: log-likelihoods of continuations of a context, in batches of like length.

A language model here is anything with
    vocab_size, max_length, prefix_id, end_id      numbers; the first is the end of document token where there is no other
    encode(text, is_whole) -> ids, decode(ids) -> text exactly, decode_without_end(ids) -> text without special tokens
    share, shares                                  which of how many copies of the model this process belongs to
    gather(values) -> list of every copy's values
    cost(query) -> (positions run, logits rows)    and room_for(...) -> how many queries go through at once
    score(queries) -> [[Likelihood]]               one forward pass
    decoder(prompts) -> Decoder                    see generation.py
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from codemix_megatron.errors import EvaluationError

__all__ = ["Likelihood", "Query", "fit_to_length", "group_queries", "log_likelihoods"]

MOST_BRANCHES = 32  # continuations in one row


class Likelihood(NamedTuple):
    """Natural log of a continuation's probability, and whether greedy decoding would give it."""

    nats: float
    is_greedy: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A context of at least one token and the continuations to score after it, token ids all."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def longest(self) -> int:
        """Positions of the longest path through the query; the last token of a continuation is never read."""
        return len(self.context) + max(map(len, self.continuations)) - 1


def group_queries(pairs) -> tuple[list[Query], list[tuple[int, int]]]:
    """Join (context, continuation) pairs of the same context; return queries and each pair's (query, index of the continuation).

    A context is then read once for its continuations, and the same pair asked twice is scored once. Continuations much
    longer than their context stay by themselves: a row of many of them would cost more attention than it saves.
    """
    grouped: dict[tuple, dict[tuple, int]] = {}
    where = []
    for number, (context, continuation) in enumerate(pairs):
        context, continuation = tuple(context), tuple(continuation)
        shared = 2 * len(context) >= len(continuation)
        key = (context, None if shared else number)
        if shared and len(grouped.get(key, ())) >= MOST_BRANCHES and continuation not in grouped[key]:
            key = (context, number)
        continuations = grouped.setdefault(key, {})
        where.append((key, continuations.setdefault(continuation, len(continuations))))
    numbers = {key: number for number, key in enumerate(grouped)}
    queries = [Query(context, tuple(continuations)) for (context, _), continuations in grouped.items()]
    return queries, [(numbers[key], index) for key, index in where]


def fit_to_length(context, continuation, max_length: int) -> tuple[tuple, tuple]:
    """Cut what the model cannot see at once off the left of the context; raises EvaluationError when nothing would be left of it."""
    if not len(context) or not len(continuation):
        raise EvaluationError(
            "the tokenizer produced zero tokens for a context or continuation; the task's template or the model's tokenizer is wrong"
        )
    if len(continuation) > max_length:
        raise EvaluationError(
            f"a continuation of {len(continuation)} tokens does not fit into the {max_length} the model sees at once;"
            " leave the task out or score a model with longer sequences"
        )
    return tuple(context)[-(max_length + 1 - len(continuation)) :], tuple(continuation)


def log_likelihoods(model, pairs, on_done: Callable[[int], None] = lambda number: None) -> list[Likelihood]:
    """Score (context, continuation) pairs of token ids; `on_done` gets how many more pairs are done.

    Every copy of a model calls this with the same pairs; each runs its share of the batches and all get all values.
    Longest first, so that memory runs out at once or never.
    """
    fitted = [fit_to_length(context, continuation, model.max_length) for context, continuation in pairs]
    queries, where = group_queries(fitted)
    asked = [0] * len(queries)
    for number, _ in where:
        asked[number] += 1
    found: dict[int, list[Likelihood]] = {}
    for batch in batches_of(model, queries)[model.share :: model.shares]:
        for number, values in zip(batch, model.score([queries[number] for number in batch]), strict=True):
            found[number] = values
        on_done(model.shares * sum(asked[number] for number in batch))
    for others in model.gather(found):
        found |= others
    return [found[number][index] for number, index in where]


def batches_of(model, queries: list[Query]) -> list[list[int]]:
    """Return the numbers of the queries in batches, longest first, each as large as fits."""
    order = sorted(range(len(queries)), key=lambda number: model.cost(queries[number]), reverse=True)
    batches: list[list[int]] = []
    positions, logits = 0, 0
    for number in order:
        cost = model.cost(queries[number])
        wider, more = max(positions, cost[0]), max(logits, cost[1])
        if batches and len(batches[-1]) < model.room_for(wider, more):
            batches[-1].append(number)
            positions, logits = wider, more
        else:
            batches.append([number])
            positions, logits = cost
    return batches
