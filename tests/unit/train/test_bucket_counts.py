"""What the journal says of buckets: what was read of each, less what was left out."""

from types import SimpleNamespace

import numpy as np

from codemix_megatron.mixture.buckets import Round
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.train.loop import Training

BATCH, LENGTH = 4, 16


def counted(mixture: Mixture, seen: int, skipped=()) -> dict | None:
    """Tokens of buckets after so many sequences, as a loop with this data order counts them."""
    loop = SimpleNamespace(
        batches=SimpleNamespace(mixture=mixture), plan=SimpleNamespace(sequence_length=LENGTH),
        state=SimpleNamespace(sequences_seen=seen, step=seen // BATCH, skipped=list(skipped)),
        positions=lambda step: np.arange((step - 1) * BATCH, step * BATCH),
    )  # fmt: skip
    loop.steps_skipped = lambda: Training.steps_skipped(loop)
    return Training.tokens_per_bucket(loop)


def test_tokens_of_buckets_are_those_read_less_those_of_batches_left_out():
    mixture = Mixture(3, ["code", "text"], [30, 20], [[60, 20]], rounds={0: Round([0, 10, 60], [9, 10, 20])})
    located = mixture.locate(np.arange(40))
    is_code = located.source == 0
    walked = np.bincount(np.searchsorted([9, 19, 39], located.sequence[is_code], side="right"), minlength=3) * LENGTH
    assert counted(mixture, 40) == {"code": walked.tolist()}
    left = located.sequence[4:12][is_code[4:12]]
    walked -= np.bincount(np.searchsorted([9, 19, 39], left, side="right"), minlength=3) * LENGTH
    assert counted(mixture, 40, [(2, 3), (30, 40)]) == {"code": walked.tolist()}


def test_a_run_without_buckets_says_nothing_of_them():
    assert counted(Mixture(3, ["a"], [30], [[60]]), 8) is None
