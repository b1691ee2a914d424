"""What comes at a position is a promise to every run that has begun: it may change only together with `DATA_ORDER`.

The numbers were computed by the package as it was when runs first began under each version. Who changes them on purpose counts
`DATA_ORDER` up, so that runs of the old order are refused instead of reading some data twice and skipping other.
"""

import hashlib

import numpy as np
import pytest
from token_ids import Ids

from codemix_megatron.mixture.budget import apportion, apportion_moving
from codemix_megatron.mixture.fill_in_the_middle import MiddleFiller
from codemix_megatron.mixture.mixture import DATA_ORDER, Mixture
from codemix_megatron.mixture.packing import best_fit, cut_pieces
from codemix_megatron.recipe.schema import FillInTheMiddle

SMALL = Mixture(1234, ["web", "code", "markup"], [50, 7, 1000], [[30, 9, 25], [0, 3, 61], [70, 0, 2]])
PAPER = Mixture(7, ["text", "code"], [245_000_000, 68_000_001], [[85_449_219, 12_207_031], [39_062_500, 9_765_625]])
HUGE = Mixture(2**31, ["a", "b", "c"], [2**33 + 1, 3 * 10**9, 4], [[4 * 10**9, 4 * 10**9, 3], [7, 5 * 10**9, 0]])
POWERS = Mixture(11, list("abcdefghi"), [1, 2, 3, 4, 5, 16, 17, 1024, 65536], [[4, 8, 9, 16, 15, 48, 34, 1500, 1500]])


def test_the_goldens_below_are_those_of_this_order():
    assert DATA_ORDER == 1, "write the numbers of this file again, and say in CHANGELOG.md that running runs must be finished first"


def test_first_positions_of_a_small_mixture():
    located = SMALL.locate(np.arange(12))
    assert located.source.tolist() == [2, 0, 1, 0, 2, 0, 2, 0, 2, 0, 1, 0]
    assert located.sequence.tolist() == [22, 6, 0, 49, 77, 25, 388, 34, 942, 22, 5, 20]


@pytest.mark.parametrize(
    ("mixture", "digest"),
    [(SMALL, "5854717c030e3740"), (PAPER, "f3ea122a629aa5bd"), (POWERS, "d8e9dede38e047a2"), (HUGE, "ce9a2e088f3e766d")],
    ids=["small", "paper", "powers of two", "huge"],
)
def test_digest_of_positions_spread_over_a_run(mixture, digest):
    assert digest_of(mixture) == digest


def digest_of(mixture: Mixture) -> str:
    """Return a digest of up to 4,096 located positions, the first, the last and those around each border of phases among them."""
    spread = np.linspace(0, len(mixture) - 1, 4096).round().astype(np.int64)
    borders = [start + offset for start in mixture.row_starts for offset in range(-8, 8)]
    positions = np.unique(np.clip(np.concatenate([spread, borders]), 0, len(mixture) - 1))
    located = mixture.locate(positions)
    columns = np.stack([positions, located.phase, located.source, located.epoch, located.sequence]).astype("<i8")
    return hashlib.sha256(columns.tobytes()).hexdigest()[:16]


def test_counts_of_shares():
    assert list(apportion(1000, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}).values()) == [334, 333, 333]
    assert list(apportion(97, {"a": 0.1, "b": 0.2, "c": 0.7}).values()) == [10, 19, 68]


def test_packed_sequences():
    draw = np.random.RandomState(3)  # whose stream numpy promises to keep
    lengths = draw.randint(1, 300, 400)
    start, length = cut_pieces(lengths, 64)
    bins = best_fit(length, 65)
    digest = hashlib.sha256(np.stack([start, length, bins]).astype("<i8").tobytes()).hexdigest()[:16]
    assert (len(bins), int(bins.max()) + 1, digest) == (1166, 966, "6e22ac97af4350b7")


def test_documents_rewritten_for_infilling():
    spec = FillInTheMiddle(rate=0.7, spm_share=0.5, cut="token", sentinels=("<p>", "<m>", "<s>"))
    filler = MiddleFiller(5, {"code": None}, [spec], Ids())
    rows = np.tile(np.where(np.arange(64) % 21 == 20, 0, np.arange(64) + 1), (3, 1))
    filler.rewrite(rows, np.zeros(3, int), np.array([4, 5, 4]), np.array([0, 0, 1]), None)
    assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:16] == "b11e9f109788883e"


def test_shares_that_move():
    rows = apportion_moving(97, {"a": 1.0}, {"a": 0.2, "b": 0.8}, 6, is_stepped=False)
    assert [(row["a"], row["b"]) for row in rows] == [(15, 1), (13, 3), (10, 6), (9, 7), (7, 9), (4, 13)]
    moving = Mixture(5, ["a", "b"], [30, 40], [[*row.values()] for row in rows], phase_of_row=[0] * 6)
    assert digest_of(moving) == "d0239b439a8166a6"
