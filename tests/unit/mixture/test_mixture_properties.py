"""The arithmetic of MIXTURE: exact totals, bounded discrepancy, nothing twice before all once, no state."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codemix_megatron.mixture.budget import apportion, apportion_moving, whole_batches
from codemix_megatron.mixture.interleave import Interleaving
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.permutation import epoch_keys, half_bits, permute, source_key

COUNTS = st.lists(st.integers(0, 400), min_size=1, max_size=12).filter(any)


@given(st.integers(1, 10**12), st.dictionaries(st.integers(0, 99), st.floats(0, 1), min_size=1, max_size=30))
def test_apportioned_counts_sum_exactly_and_are_within_one(total, shares):
    if math.fsum(shares.values()) <= 1e-9:
        return
    counts = apportion(total, shares)
    whole = math.fsum(shares.values())
    assert sum(counts.values()) == total
    for name, share in shares.items():
        assert abs(counts[name] - total * share / whole) <= 1 + total * 1e-12


def test_stepped_shares_begin_with_the_first_and_end_with_the_last():
    rows = apportion_moving(30, {"a": 1.0}, {"b": 1.0}, 3, is_stepped=True)
    assert [(row["a"], row["b"]) for row in rows] == [(10, 0), (5, 5), (0, 10)]
    assert apportion_moving(8, {"a": 1.0}, {"b": 1.0}, 1, is_stepped=True) == [{"a": 4, "b": 4}], "one stretch has the mean"


@given(st.integers(1, 10**15), st.integers(1, 10**8))
def test_budget_becomes_the_nearest_number_of_batches(tokens, batch):
    steps = whole_batches(tokens, batch)
    assert steps >= 1
    assert steps == 1 or abs(steps * batch - tokens) <= batch / 2


@given(COUNTS)
def test_every_prefix_holds_every_source_within_the_depth_of_the_tree(counts):
    interleaving = Interleaving(counts)
    source, index = interleaving.locate(np.arange(interleaving.total))
    bound = math.ceil(math.log2(max(1, np.count_nonzero(counts)))) + 1
    for s, count in enumerate(counts):
        here = source == s
        assert here.sum() == count
        assert np.array_equal(index[here], np.arange(count)), "draws of a source are not in order"
        expected = np.arange(1, interleaving.total + 1) * count / interleaving.total
        assert np.abs(np.cumsum(here) - expected).max(initial=0) <= bound


def locate_with_unbounded_integers(counts: list[int], position: int) -> tuple[int, int]:
    """Return (source, index) by the definition in docs/mixture.md, in Python's integers."""
    leaves = [i for i, count in enumerate(counts) if count]
    while len(leaves) > 1:
        half = len(leaves) // 2
        left, total = sum(counts[i] for i in leaves[:half]), sum(counts[i] for i in leaves)
        before, after = ((n * left + total // 2) // total for n in (position, position + 1))
        leaves, position = (leaves[:half], before) if after > before else (leaves[half:], position - before)
    return leaves[0], position


LARGE_COUNTS = st.lists(st.integers(0, 2**45 // 8), min_size=1, max_size=8).filter(any)


@given(LARGE_COUNTS, st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
@example([4 * 10**9, 4 * 10**9], [0.0, 0.5, 0.9999999999])
@example([1, 2**42, 3], [0.0, 0.5, 0.9999999999])
def test_positions_past_63_bits_are_those_of_unbounded_integers(counts, fractions):
    interleaving = Interleaving(counts)
    positions = [min(interleaving.total - 1, int(fraction * interleaving.total)) for fraction in fractions] + [interleaving.total - 1]
    source, index = interleaving.locate(np.array(positions))
    assert list(zip(source.tolist(), index.tolist(), strict=True)) == [locate_with_unbounded_integers(counts, p) for p in positions]


def test_a_phase_of_twice_four_billion_sequences_has_no_negative_epoch():
    mixture = Mixture(1, ["a", "b"], [10**9, 10**9], [[4 * 10**9, 4 * 10**9]])
    located = mixture.locate(np.linspace(0, len(mixture) - 1, 10_000).astype(np.int64))
    assert located.epoch.min() == 0 and located.epoch.max() == 3
    assert located.sequence.min() >= 0 and located.sequence.max() < 10**9
    assert mixture.consumed(len(mixture)).tolist() == [4 * 10**9, 4 * 10**9]


def test_runs_past_what_is_exact_are_refused():
    with pytest.raises(ValueError, match="positions are exact up to"):
        Mixture(1, ["a", "b"], [10, 10], [[2**45, 1]])


@given(st.integers(1, 3000), st.integers(0, 2**32), st.integers(0, 5))
@settings(max_examples=60)
def test_an_epochs_order_holds_every_sequence_once(size, seed, epoch):
    order = whole_epoch(size, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(size))


def whole_epoch(size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of one epoch of a source."""
    sizes = np.full(size, size)
    keys = epoch_keys(np.full(size, source_key(seed, "source")), np.full(size, epoch))
    return permute(np.arange(size), sizes, half_bits(sizes), keys)


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [whole_epoch(5000, seed, epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    for i, first in enumerate(orders):
        assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 0.06
        for second in orders[i + 1 :]:
            assert (first == second).mean() < 0.01


@st.composite
def mixtures(draw):
    """A run of one to three phases over one to five sources."""
    num_sources = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(1, 90), min_size=num_sources, max_size=num_sources))
    phase = st.lists(st.integers(0, 120), min_size=num_sources, max_size=num_sources).filter(any)
    phases = draw(st.lists(phase, min_size=1, max_size=3))
    return Mixture(draw(st.integers(0, 99)), [f"s{i}" for i in range(num_sources)], sizes, phases)


@given(mixtures())
@settings(max_examples=60)
def test_no_sequence_comes_twice_before_all_came_once_also_across_phases(mixture):
    located = mixture.locate(np.arange(len(mixture)))
    for s, size in enumerate(mixture.sequences_per_epoch):
        drawn = located.sequence[located.source == s]
        for start in range(0, len(drawn), size):
            epoch = drawn[start : start + size]
            assert len(np.unique(epoch)) == len(epoch)
            assert epoch.min() >= 0 and epoch.max() < size


@given(mixtures(), st.integers(1, 7), st.integers(4, 20))
@settings(max_examples=20)
def test_same_sequences_come_whatever_rank_or_micro_batch_asks(mixture, ranks, micro):
    """Any slicing of the positions, from any of them on, gives what walking them from the start gives."""
    whole = mixture.locate(np.arange(len(mixture)))
    for begin in range(0, len(mixture), ranks * micro):
        for rank in range(ranks):
            own = np.arange(begin + rank * micro, min(len(mixture), begin + (rank + 1) * micro))
            part = mixture.locate(own)
            for name in ("phase", "source", "epoch", "sequence"):
                assert np.array_equal(getattr(part, name), getattr(whole, name)[own])


@given(mixtures(), st.floats(0, 1))
@settings(max_examples=60)
def test_consumed_counts_equal_a_walk(mixture, part):
    seen = round(part * len(mixture))
    walked = np.bincount(mixture.locate(np.arange(seen)).source, minlength=len(mixture.sources))
    assert np.array_equal(mixture.consumed(seen), walked)


def test_positions_outside_the_run_are_refused():
    mixture = Mixture(1, ["a"], [5], [[7]])
    with pytest.raises(IndexError, match="outside the run's 7 sequences"):
        mixture.locate([7])
    with pytest.raises(IndexError):
        mixture.locate([-1])


def test_a_trillion_tokens_over_two_hundred_sources_hold_their_shares():
    draw = np.random.default_rng(0)
    names = [f"source-{i}" for i in range(200)]
    sequences = 10**12 // 2048
    counts = list(apportion(sequences, dict(zip(names, draw.random(200), strict=True))).values())
    mixture = Mixture(3, names, draw.integers(10**5, 10**7, 200).tolist(), [counts])
    assert len(mixture) == sequences
    for seen in (1, 511, 10**6, sequences // 3, sequences - 1):
        expected = np.array(counts) * (seen / sequences)
        assert np.abs(mixture.consumed(seen) - expected).max() <= math.ceil(math.log2(200)) + 1
    located = mixture.locate(np.array([0, sequences // 2, sequences - 1]))
    assert (located.sequence < mixture.sequences_per_epoch[located.source]).all()


def test_phase_two_goes_on_where_phase_one_stopped():
    """What Megatron-LM does not: there, 800 of 1000 second-phase samples had been seen with 40 % of the data used."""
    mixture = Mixture(1, ["a", "b"], [2500, 2500], [[800, 200], [400, 600]])
    located = mixture.locate(np.arange(2000))
    seen = set(zip(located.source[:1000].tolist(), located.sequence[:1000].tolist(), strict=True))
    again = [pair for pair in zip(located.source[1000:].tolist(), located.sequence[1000:].tolist(), strict=True) if pair in seen]
    assert again == []


def test_branch_draws_on_where_its_parent_stopped():
    """Whatever the parent's phase still held: nothing read before the branch is read again before everything was read once."""
    trunk = Mixture(1, ["a", "b"], [2500, 2500], [[800, 200], [400, 600]])
    seen = 1200
    before = trunk.locate(np.arange(seen))
    branch = Mixture(1, ["a", "b"], [2500, 2500], [[900, 100]], first=seen, drawn=trunk.consumed(seen))
    after = branch.locate(np.arange(seen, len(branch)))
    read = set(zip(before.source.tolist(), before.sequence.tolist(), strict=True))
    read_after = set(zip(after.source.tolist(), after.sequence.tolist(), strict=True))
    assert len(branch) == seen + 1000 and len(read_after) == 1000
    assert not read & read_after
    assert branch.consumed(len(branch)).tolist() == [trunk.consumed(seen)[0] + 900, trunk.consumed(seen)[1] + 100]
    with pytest.raises(IndexError):
        branch.locate(np.array([seen - 1]))


@given(st.integers(1, 60), st.integers(0, 10**12), st.integers(1, 3))
def test_epoch_of_a_part_is_spread_evenly_over_all_that_is_stored(part, more, epochs):
    """A run that stands for a longer one: an epoch has `part` sequences of a file of `stored`, each once, none of them close together."""
    stored = part + more
    mixture = Mixture(9, ["code"], [part], [[epochs * part]], stored=[stored])
    sequences = mixture.locate(np.arange(epochs * part)).sequence.reshape(epochs, part)
    for epoch in sequences:
        assert sorted(epoch.tolist()) == [i * stored // part for i in range(part)]  # Python's own integers


def test_a_part_that_is_everything_is_read_as_ever():
    whole, part = (Mixture(9, ["a", "b"], [50, 70], [[90, 30]], stored=stored) for stored in (None, [50, 70]))
    assert np.array_equal(whole.locate(np.arange(120)).sequence, part.locate(np.arange(120)).sequence)
