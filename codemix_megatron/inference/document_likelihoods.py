"""How likely whole documents are to a model, in windows that fit what it sees at once."""

from dataclasses import dataclass

import numpy as np

from codemix_megatron.inference.queries import log_likelihoods

__all__ = ["Window", "cut_windows", "document_nats"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Positions [start, stop) of a document that go through the model together.

    Position 0 is the token put in front (see `document_nats`); position i > 0 is token i - 1. The model at position i
    predicts position i + 1; predictions of the positions from `first` to `stop` count.
    """

    document: int
    start: int
    stop: int
    first: int


def cut_windows(document: int, num_tokens: int, max_length: int) -> list[Window]:
    """Return windows of at most `max_length` positions that score every token exactly once.

    Where a document needs several, each but the first scores the last half of its window, so that every token
    but the first ones sees at least half a window before it.
    """
    stop = min(max_length, num_tokens)
    windows = [Window(document=document, start=0, stop=stop, first=1)]
    while stop < num_tokens:
        first, stop = stop + 1, min(stop + max(1, max_length // 2), num_tokens)
        windows.append(Window(document=document, start=stop - max_length, stop=stop, first=first))
    return windows


def document_nats(model, documents, before: int, on_windows=lambda done, total: None) -> np.ndarray:
    """Return the negative log-likelihood of each document in nats, given one token before it.

    That is what stands before a document in training: the token that begins it, else the end of the one before.
    """
    pairs, owners = [], []
    for number, ids in enumerate(documents):
        sequence = [before, *map(int, ids)]
        for window in cut_windows(number, len(ids), model.max_length):
            pairs.append((sequence[window.start : window.first], sequence[window.first : window.stop + 1]))
            owners.append(number)
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done = min(len(pairs), done + number)
        on_windows(done, len(pairs))

    nats = np.zeros(len(documents))
    for owner, value in zip(owners, log_likelihoods(model, pairs, count), strict=True):
        nats[owner] -= value.nats
    return nats
