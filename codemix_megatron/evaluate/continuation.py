"""Continuation: which of four passages continues this text? Multiple choice out of held-out documents.

A suite for models too small for the usual benchmarks: it needs no knowledge, only a feel for the corpus. Passages of
four documents of a corpus form a group; each is asked once, with the continuations of all four to choose from. So a
model that ignores the context picks the same choice four times and scores 1/4 exactly, whatever it prefers:
short choices, frequent words. (With distractors drawn freely a random model was off by more than two standard errors.)
"""

import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote

import numpy as np
import yaml

from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.atomic import replace_text

__all__ = ["Item", "Passage", "build_items", "cut_passages", "task_name", "write_suite"]

CHOICES = 4
CHANCE = 1 / CHOICES
CONTEXT_TOKENS = 80
CONTINUATION_TOKENS = 16
SHORTEST_CONTEXT_TOKENS = 16
PASSAGES_PER_DOCUMENT = 8
DOCUMENTS_PER_ITEM = 4  # how many documents to read for each item wanted, for some are too short
SUITE_SEED = 2408


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A context and how its document continues, cut between words; `continuation` begins with the space."""

    document: int
    context: str
    continuation: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question; `choices[answer]` is the truth."""

    document: int
    context: str
    choices: list[str]
    answer: int


def write_suite(folder, corpus: str, exported, documents, *, items: int, seed: int = SUITE_SEED) -> str:
    """Write items and lm-eval task of one corpus into `folder` and return the task's name.

    `documents` are arrays of token ids with the end-of-document token at the end. The same documents, seed and
    tokenizer give the same bytes. Raises EvaluationError when no item can be made.
    """
    order = np.random.default_rng(seed).permutation(len(documents))[: max(64, items * DOCUMENTS_PER_ITEM)]
    context_tokens = min(CONTEXT_TOKENS, exported.max_length * 2 // 3)
    longest = PASSAGES_PER_DOCUMENT * (context_tokens + 2 * CONTINUATION_TOKENS)
    passages = []
    for index in sorted(order):
        ids = documents[index][:-1][:longest]
        if len(ids):
            passages += cut_passages(int(index), exported.decode(ids), len(ids), context_tokens)
    built = build_items(passages, items, seed)
    if not built:
        held = len({passage.document for passage in passages})
        raise EvaluationError(
            f"corpus {corpus}: no continuation items; {held} of its {len(documents)} held-out documents can be cut"
            f" into context and continuation, {CHOICES} are needed; raise evaluation.held_out_share and run `codemix prepare` again"
        )
    name, folder = task_name(corpus), Path(folder).absolute()
    data = folder / f"{name}.jsonl"
    replace_text(data, "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in built))
    replace_text(folder / f"{name}.yaml", yaml.safe_dump(task_config(name, data), sort_keys=False))
    return name


def task_name(corpus: str) -> str:
    """Return the lm-eval task of a corpus; what cannot stand in a file name is written as %XX."""
    return f"continuation_{quote(corpus, safe='')}"


def task_config(name: str, data: Path) -> dict:
    """Return the lm-eval task; fields of the data are named, not rendered, so that braces in code stay as they are."""
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "num_fewshot": 0,
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")],
        "metadata": {"version": 1},
    }


def cut_passages(document: int, text: str, num_tokens: int, context_tokens: int = CONTEXT_TOKENS) -> list[Passage]:
    """Return passages of about `context_tokens` and 16 more tokens, one after the other through the text.

    Lengths in characters follow from the tokens of the whole text. A text too short for that gets a shorter context,
    of at least 16 tokens.
    """
    characters = len(text) / max(num_tokens, 1)
    wanted = min(context_tokens, num_tokens - 2 * CONTINUATION_TOKENS)
    if wanted < min(SHORTEST_CONTEXT_TOKENS, context_tokens):
        return []
    context_size, size = round(wanted * characters), max(4, round(CONTINUATION_TOKENS * characters))
    passages: list = []
    start = 0
    while len(passages) < PASSAGES_PER_DOCUMENT and start + context_size < len(text):
        cut = next_gap(text, start + context_size, size)
        end = next_gap(text, cut + size * 3 // 4, size * 3 // 4) if cut else None
        if end is None:
            start += context_size + size
            continue
        context, following = text[start:cut].lstrip(), text[cut:end]
        if context and len(following.split()) > 1 and "\N{REPLACEMENT CHARACTER}" not in context + following:
            passages.append(Passage(document=document, context=context, continuation=following))
        start = end
    return passages


def next_gap(text: str, at: int, reach: int) -> int | None:
    """Return the first single space between two words at or after `at`, or None when it is further than `reach`.

    No other white space will do: every byte-pair tokenizer keeps ` word` apart from what stands before it, while
    line ends and indentation may share a token with their neighbours, which would make the split of lm-eval inexact.
    """
    for index in range(max(at, 1), min(at + reach, len(text) - 1)):
        if text[index] == " " and not text[index - 1].isspace() and not text[index + 1].isspace():
            return index
    return None


def build_items(passages: Iterable[Passage], items: int, seed: int = SUITE_SEED) -> list[Item]:
    """Return at most `items` questions, in whole groups of four unless fewer are wanted.

    Every document gives its first passage before any gives its second. The truth stands anywhere among the choices.
    """
    draw = random.Random(seed)
    by_document: dict[int, list[Passage]] = {}
    for passage in passages:
        by_document.setdefault(passage.document, []).append(passage)
    documents = list(by_document)
    draw.shuffle(documents)
    waiting = [p for turn in zip_longest(*(by_document[d] for d in documents)) for p in turn if p is not None]
    built: list[Item] = []
    while len(built) < max(1, items // CHOICES * CHOICES) and (group := take_group(waiting)):
        for passage in group:
            choices = draw.sample(group, CHOICES)
            texts = [choice.continuation for choice in choices]
            built.append(Item(document=passage.document, context=passage.context, choices=texts, answer=choices.index(passage)))
    return built[:items]


def take_group(waiting: list[Passage]) -> list[Passage]:
    """Remove the first four passages that can stand side by side from the list and return them; nothing when there are none.

    The first passage waits for three that differ from it and each other in document, context and continuation; one
    that finds none is dropped.
    """
    while waiting:
        group = [waiting[0]]
        for passage in waiting[1:]:
            if all(differ(passage, other) for other in group):
                group.append(passage)
            if len(group) == CHOICES:
                chosen = set(map(id, group))
                waiting[:] = [p for p in waiting if id(p) not in chosen]
                return group
        del waiting[0]
    return []


def differ(one: Passage, other: Passage) -> bool:
    """Say whether the continuation of one is wrong for the other."""
    return (
        one.document != other.document
        and one.context != other.context
        and one.continuation != other.continuation
        and one.continuation not in other.context
        and other.continuation not in one.context
    )
