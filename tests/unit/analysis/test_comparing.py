"""Estimates and comparisons beside scipy and numpy, and what they say at their edges: one item, no item that changed, nothing finite."""

import math

import numpy as np
import pytest
from scipy import stats

from codemix_megatron.analysis.aggregates import aggregate
from codemix_megatron.analysis.comparing import (
    NOT_DISTINGUISHABLE,
    Difference,
    compare_apart,
    compare_paired,
    compare_paired_ratio,
    mcnemar,
    sign_test,
)
from codemix_megatron.analysis.estimates import (
    SEED,
    Estimate,
    estimate_mean,
    estimate_ratio,
    interval,
    pass_at_k,
    resample_means,
    spread_over_seeds,
)

DRAW = np.random.default_rng(3)


@pytest.mark.parametrize(("wins", "losses"), [(9, 1), (1, 9), (7, 3), (5, 5), (1, 0), (0, 3), (40, 60)])
def test_sign_test_is_scipys(wins, losses):
    expected = stats.binomtest(wins, wins + losses, 0.5).pvalue
    assert sign_test(wins, losses) == pytest.approx(expected, abs=1e-12) == mcnemar(wins, losses)


def test_no_win_and_no_loss_are_no_evidence():
    assert sign_test(0, 0) == 1.0


def test_mean_has_the_standard_error_of_scipy_and_an_interval_over_items():
    values = DRAW.normal(2, 1, 40)
    found = estimate_mean(values)
    assert (found.value, found.items) == (pytest.approx(values.mean()), 40)
    assert found.standard_error == pytest.approx(stats.sem(values))
    drawn = np.random.default_rng(SEED).integers(0, 40, (2000, 40))
    assert (found.low, found.high) == pytest.approx(np.percentile(values[drawn].mean(axis=1), [2.5, 97.5]))


def test_two_items_have_an_error_and_one_has_none():
    assert estimate_mean([1.0, 3.0]).standard_error == pytest.approx(1.0)
    assert estimate_mean([3.0]) == Estimate(value=3.0, standard_error=None, low=None, high=None, items=1)
    assert estimate_ratio([3.0], [2.0]) == Estimate(value=1.5, standard_error=None, low=None, high=None, items=1)
    assert estimate_mean([1.0, math.inf]) == Estimate(value=math.inf, standard_error=None, low=None, high=None, items=2)
    assert estimate_ratio([1.0, math.inf], [1.0, 1.0]).low is None
    assert estimate_ratio([1.0, 2.0], [1.0, 1.0]).standard_error is not None


def test_ratio_has_cochrans_error_and_an_interval_over_items():
    above, below = DRAW.uniform(1, 2, 30), DRAW.integers(1, 9, 30).astype(float)
    found, ratio = estimate_ratio(above, below), above.sum() / below.sum()
    residuals = above - ratio * below
    assert found.value == pytest.approx(ratio) and found.items == 30
    assert found.standard_error == pytest.approx(math.sqrt(30 * residuals.var(ddof=1)) / below.sum())
    drawn = np.random.default_rng(SEED).integers(0, 30, (2000, 30))
    ratios = above[drawn].sum(axis=1) / below[drawn].sum(axis=1)
    assert (found.low, found.high) == pytest.approx(np.percentile(ratios, [2.5, 97.5]))


def test_draws_without_a_denominator_give_no_ratio():
    found = estimate_ratio([1.0, 1.0, 1.0], [0.0, 0.0, 2.0])
    assert found.value == 1.5 and 0.5 <= found.low <= found.high < math.inf


@pytest.mark.parametrize("shape", [(7,), (7, 2)])
def test_means_of_draws_are_those_of_drawn_items(shape):
    values = DRAW.normal(size=shape)
    drawn = np.random.default_rng(SEED).integers(0, 7, (50, 7))
    assert resample_means(values, 50) == pytest.approx(values[drawn].mean(axis=1))
    assert resample_means(values, 50).shape == (50, *shape[1:])


def test_means_of_many_items_are_drawn_in_parts():
    values = np.arange(10_001, dtype=float)
    means = resample_means(values, 500)
    assert (
        means.shape == (500,) and abs(means.mean() - 5000) < 10 and means.std() == pytest.approx(values.std() / math.sqrt(10_001), rel=0.1)
    )


def test_interval_leaves_two_and_a_half_percent_at_each_end():
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert interval(np.array([*np.arange(1001.0), np.nan])) == pytest.approx((25.0, 975.0))


def test_spread_needs_two_seeds():
    assert spread_over_seeds([1.0]) is None
    found = spread_over_seeds([1.0, 2.0, 6.0])
    assert (found.mean, found.seeds) == (3.0, 3) and found.deviation == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert spread_over_seeds([1.0, 3.0]).deviation == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(("samples", "passed", "k"), [(10, 1, 1), (10, 3, 2), (5, 5, 3), (5, 0, 3), (5, 4, 5), (20, 7, 10)])
def test_pass_at_k_is_the_chance_that_drawn_tries_hold_one_that_passed(samples, passed, k):
    assert pass_at_k(samples, passed, k) == pytest.approx(1 - stats.hypergeom.pmf(0, samples, passed, k))


@pytest.mark.parametrize(("samples", "passed", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 0), (5, 2, 6)])
def test_pass_at_k_of_what_cannot_be_is_refused(samples, passed, k):
    with pytest.raises(ValueError) as caught:
        pass_at_k(samples, passed, k)
    assert str(caught.value) == f"pass@{k} of {passed} in {samples} samples: needs 0 <= passed <= samples and 1 <= k <= samples"


def test_right_and_wrong_answers_are_judged_by_the_exact_test_and_the_wider_interval():
    ours, theirs = [1] * 5 + [0] * 15, [0] * 5 + [0] * 15
    found = compare_paired(ours, theirs)
    assert found.p_value == stats.binomtest(5, 5).pvalue and found.value == 0.25 and found.items == 20
    assert found.standard_error == pytest.approx(stats.sem(np.subtract(ours, theirs)))
    exact = stats.binomtest(5, 5).proportion_ci(0.95)
    bootstrap = estimate_mean(np.subtract(ours, theirs))
    assert found.low == pytest.approx(min(bootstrap.low, (2 * exact.low - 1) * 5 / 20))
    assert found.high == pytest.approx(max(bootstrap.high, (2 * exact.high - 1) * 5 / 20))
    assert not found.is_distinguishable and found.words == NOT_DISTINGUISHABLE  # p = 0.0625
    assert compare_paired([1] * 6 + [0] * 14, [0] * 20).words == "higher"
    assert compare_paired([0] * 20, [1] * 6 + [0] * 14).words == "lower"


def test_answers_that_all_agree_differ_in_nothing():
    found = compare_paired([1, 0, 1], [1, 0, 1])
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0) and found.words == NOT_DISTINGUISHABLE
    assert compare_paired([1], [0]) == Difference(value=1.0, standard_error=None, low=None, high=None, items=1)


def test_values_between_right_and_wrong_have_no_exact_test():
    ours, theirs = [0.5, 1.0, 0.9, 1.0], [0.0, 0.0, 0.0, 0.0]
    found = compare_paired(ours, theirs)
    assert found.p_value is None and found.low > 0 and found.words == "higher"
    assert compare_paired(theirs, ours).words == "lower"
    assert compare_paired(ours, ours[::-1]).words == NOT_DISTINGUISHABLE


def test_bits_per_byte_are_compared_over_the_same_bytes():
    ours, theirs, lengths = DRAW.uniform(1, 2, 25), DRAW.uniform(1, 2, 25), DRAW.integers(1, 9, 25).astype(float)
    found, expected = compare_paired_ratio(ours, theirs, lengths), estimate_ratio(ours - theirs, lengths)
    assert (found.value, found.standard_error, found.low, found.high) == pytest.approx(
        (expected.value, expected.standard_error, expected.low, expected.high)
    )
    assert found.items == 25 and found.p_value is None
    assert compare_paired_ratio([2.0], [1.0], [4.0]) == Difference(value=0.25, standard_error=None, low=None, high=None, items=1)
    assert compare_paired_ratio([2.0, math.inf], [1.0, 1.0], [4.0, 4.0]).low is None
    assert compare_paired_ratio([2.0, 2.0], [1.0, 1.5], [4.0, 4.0]).standard_error is not None
    assert compare_paired_ratio([2.0, 2.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 4.0]).high < math.inf


def test_values_with_errors_alone_are_as_of_other_items():
    found = compare_apart(2.0, 0.3, 1.0, 0.4)
    assert (found.value, found.standard_error, found.items) == (1.0, pytest.approx(0.5), 0)
    assert (found.low, found.high) == pytest.approx((1 - 1.96 * 0.5, 1 + 1.96 * 0.5)) and found.words == "higher"
    assert compare_apart(1.0, 0.3, 2.0, 0.4).words == "lower"
    for error, other in ((None, 0.1), (0.1, None), (math.nan, 0.1), (0.1, math.nan)):
        assert compare_apart(2.0, error, 0.5, other) == Difference(value=1.5, standard_error=None, low=None, high=None, items=0)


def test_interval_that_touches_zero_distinguishes_nothing():
    def of(low, high, p_value=None):
        return Difference(value=0.1, standard_error=None, low=low, high=high, items=3, p_value=p_value)

    assert not of(0.0, 0.2).is_distinguishable and not of(-0.2, 0.0).is_distinguishable and not of(None, None).is_distinguishable
    assert of(0.01, 0.2).is_distinguishable and of(-0.2, -0.01).is_distinguishable
    assert of(-1.0, 1.0, p_value=0.049).is_distinguishable and not of(0.1, 1.0, p_value=0.05).is_distinguishable


def test_mean_over_tasks_says_what_was_there_and_what_was_not():
    known = {"a": (0.5, 0.3), "b": (0.7, 0.4), "c": (0.9, None)}
    parts = {"two": ["a", "b"], "some": ["a", "x"], "none": ["x", "y"], "unsure": ["a", "c"], "nested": ["two", "c", "some", "z"]}
    found = aggregate(parts, known)
    assert found == {
        "two": (pytest.approx(0.6), pytest.approx(0.25), ["a", "b"], []),
        "some": (0.5, pytest.approx(0.3), ["a"], ["x"]),
        "unsure": (pytest.approx(0.7), None, ["a", "c"], []),
        "nested": (pytest.approx((0.6 + 0.9 + 0.5) / 3), None, ["two", "c", "some"], ["z", "x"]),
    }
    assert known == {"a": (0.5, 0.3), "b": (0.7, 0.4), "c": (0.9, None)}
