"""A Megatron checkpoint asked as it is, on the ranks it is spread over, without export."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from codemix_megatron.checkpoint.loading import load_checkpoint
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.corpus.tokenizers import DocumentTokenizer, load_tokenizer, recipe_tokenizer
from codemix_megatron.inference.generation import RereadingDecoder
from codemix_megatron.inference.queries import Likelihood, Query
from codemix_megatron.inference.rows import sum_by_continuation, token_likelihoods
from codemix_megatron.model.build import build_model
from codemix_megatron.model.logits import SpreadLogits
from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.recipe.schema import Recipe

__all__ = ["LiveModel", "first_token_id", "load_live"]

MOST_POSITIONS = 2**13  # of one forward pass


class LiveModel:
    """A model on its ranks as inference/queries.py wants one. Every rank calls every method, alike."""

    def __init__(self, forward: SpreadLogits, tokenizer: DocumentTokenizer, max_length: int, folder: Path, first_id: int | None = None):
        self.forward, self.tokenizer, self.max_length, self.folder = forward, tokenizer, max_length, folder
        self.first_id = first_id  # what an export's tokenizer puts before each text
        self.share, self.shares, self.gather = forward.share, forward.shares, forward.gather

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return self.tokenizer.vocab_size

    @property
    def end_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.end_of_document_id

    @property
    def prefix_id(self) -> int:
        """The token to begin with where nothing stands before."""
        return self.end_id if self.first_id is None else self.first_id

    def encode(self, text: str, is_whole: bool = True) -> list[int]:
        """Return the token ids of a text, of a whole one with the first token; a special token's name in it stays text."""
        first = [] if self.first_id is None or not is_whole else [self.first_id]
        return first + self.tokenizer.encode_batch([text])[0].tolist()

    def decode(self, ids) -> str:
        """Return the text of ids, special tokens spelled out."""
        return self.tokenizer.decode([int(i) for i in ids])

    def decode_without_end(self, ids) -> str:
        """Return the text of ids without the tokens that begin and end documents."""
        return self.decode([i for i in ids if i not in (self.end_id, self.first_id)])

    def cost(self, query: Query) -> tuple[int, int]:
        """Return the positions and the rows of logits a query takes: each continuation reads the context again."""
        chains = {c[:-1] for c in query.continuations}
        return len(chains) * query.longest, sum(map(len, query.continuations))

    def room_for(self, positions: int, logits: int) -> int:
        """Return how many queries to score at once, at least 1."""
        return max(1, min(MOST_POSITIONS // positions, 2**28 // (4 * self.vocab_size * logits)))

    def score(self, queries: list[Query]) -> list[list[Likelihood]]:
        """Score continuations; those that differ in their last token only share a row."""
        rows: dict[tuple, int] = {}
        asked = []  # (row, position, target) of every token
        for query in queries:
            for continuation in query.continuations:
                row = rows.setdefault(query.context + continuation[:-1], len(rows))
                asked += [(row, len(query.context) - 1 + i, token) for i, token in enumerate(continuation)]
        order = sorted(range(len(asked)), key=lambda i: asked[i][0])
        wanted: list[list[int]] = [[] for _ in rows]
        for i in order:
            wanted[asked[i][0]].append(asked[i][1])
        logits = self.forward.at(padded(list(rows)), wanted)
        found = None
        if logits is not None:
            targets = torch.tensor([asked[i][2] for i in order], device=logits.device)
            found = torch.stack([values.double() for values in token_likelihoods(logits, targets)]).to(logits.device)
        found = self.forward.to_all_stages(found, (2, len(asked)), torch.float64).cpu()
        back = torch.empty(len(asked), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(asked))
        return sum_by_continuation(found[0][back], found[1][back] > 0, [query.continuations for query in queries])

    def decoder(self, prompts: list[list[int]]) -> RereadingDecoder:
        """Return what continues prompts token by token."""
        return RereadingDecoder(self.next_logits, prompts)

    def next_logits(self, rows: list[list[int]]) -> torch.Tensor:
        """Return what comes after each row, float32 [rows, vocabulary]."""
        logits = self.forward.at(padded(rows), [[len(row) - 1] for row in rows])
        return self.forward.to_all_stages(logits, (len(rows), self.vocab_size), torch.float32)


def padded(rows) -> np.ndarray:
    """Return rows of ids as int64 [rows, length], zeros at the right."""
    filled = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for number, row in enumerate(rows):
        filled[number, : len(row)] = row
    return filled


def load_live(recipe: Recipe, checkpoint: Path, tokenizer_path: Path, ranks: Ranks) -> LiveModel:
    """Return the model of a checkpoint on these ranks. Every rank calls this."""
    tokenizer = recipe_tokenizer(recipe.tokenizer, tokenizer_path) if recipe.tokenizer else load_tokenizer(tokenizer_path)
    chunks = build_model(recipe, tokenizer.vocab_size, ranks.device)
    state = load_checkpoint(checkpoint, {f"model{i}": cast("Any", chunk).sharded_state_dict() for i, chunk in enumerate(chunks)})
    for i, chunk in enumerate(chunks):
        chunk.load_state_dict(state[f"model{i}"])
    forward = SpreadLogits(chunks, tokenizer.vocab_size, ranks.device)
    return LiveModel(
        forward,
        tokenizer,
        recipe.model.sequence_length,
        checkpoint,
        first_token_id(tokenizer, read_metadata(checkpoint).get("hugging_face")),
    )


def first_token_id(tokenizer: DocumentTokenizer, origin: dict | None) -> int | None:
    """Return the token before each text: what begins documents here, else what the tokenizer of the public model of `origin` puts there."""
    begin = tokenizer.metadata.beginning_of_document_id
    return begin if begin is not None else (origin or {}).get("first_token_id")
