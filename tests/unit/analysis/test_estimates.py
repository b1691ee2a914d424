import math

import numpy as np
import pytest

from codemix_megatron.analysis.aggregates import aggregate
from codemix_megatron.analysis.comparing import compare_apart, compare_paired, compare_paired_ratio, sign_test
from codemix_megatron.analysis.estimates import estimate_mean, estimate_ratio, pass_at_k, spread_over_seeds


def test_interval_holds_the_truth_about_19_times_in_20():
    random, held = np.random.default_rng(3), 0
    for _ in range(200):
        estimate = estimate_mean(random.random(120) < 0.3)
        held += estimate.low <= 0.3 <= estimate.high
    assert 180 <= held <= 199


def test_standard_error_is_lm_evals():
    from lm_eval.api.metrics import mean_stderr

    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert estimate_mean(values).standard_error == pytest.approx(mean_stderr(values))


def test_one_item_has_a_value_and_no_error():
    estimate = estimate_mean([0.5])
    assert (estimate.value, estimate.standard_error, estimate.low) == (0.5, None, None)


def test_pairing_finds_what_separate_errors_hide():
    random = np.random.default_rng(0)
    hard = random.random(400)
    ours, theirs = (hard < 0.55).astype(float), (hard < 0.5).astype(float)
    paired = compare_paired(ours, theirs)
    apart = compare_apart(ours.mean(), estimate_mean(ours).standard_error, theirs.mean(), estimate_mean(theirs).standard_error)
    assert paired.words == "higher" and apart.words == "not distinguishable"
    assert paired.value == pytest.approx(apart.value)


def test_equal_answers_are_not_distinguishable():
    assert compare_paired([1, 0, 1], [1, 0, 1]).words == "not distinguishable"
    assert compare_paired([1.0], [0.0]).words == "not distinguishable", "one item tells nothing"
    assert compare_apart(1.0, None, 0.0, 0.1).words == "not distinguishable"


def test_same_seeded_noise_is_called_different_about_1_time_in_20():
    random = np.random.default_rng(5)
    calls = sum(compare_paired(random.random(100), random.random(100)).is_distinguishable for _ in range(200))
    assert 2 <= calls <= 22


def test_ratio_differences_agree_with_the_ratios():
    random = np.random.default_rng(1)
    sizes, ours = random.integers(50, 500, 80), random.random(80) * 300 + 100
    theirs = ours + random.normal(5, 1, 80)
    difference = compare_paired_ratio(ours, theirs, sizes)
    assert difference.value == pytest.approx(estimate_ratio(ours, sizes).value - estimate_ratio(theirs, sizes).value)
    assert difference.words == "lower" and difference.high < 0


def test_sign_test_is_the_binomial():
    assert sign_test(0, 0) == 1.0 and sign_test(5, 5) == 1.0
    assert sign_test(10, 0) == pytest.approx(2 / 1024)
    assert sign_test(69, 55) > 0.05, "the paper's 34.7 % against 28.1 % of 199 is not distinguishable"
    assert sign_test(104, 37) < 0.001, "its cooldown against none is"


def test_pass_at_k_is_the_share_of_subsets_that_hold_a_solution():
    from itertools import combinations

    for passed in range(6):
        flags = [True] * passed + [False] * (5 - passed)
        for k in (1, 2, 5):
            subsets = list(combinations(flags, k))
            assert pass_at_k(5, passed, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    with pytest.raises(ValueError, match="pass@6 of 1 in 5 samples"):
        pass_at_k(5, 1, 6)


def test_seed_spread_needs_two_seeds():
    assert spread_over_seeds([1.0]) is None
    spread = spread_over_seeds([1.0, 2.0, 3.0])
    assert (spread.mean, spread.deviation, spread.seeds) == (2.0, 1.0, 3)


def test_aggregates_are_the_papers():
    """Table 2, balanced→text after continued pre-training: reasoning 53.0, knowledge 9.9, code 4.8."""
    parts = {"natural_language": ["reasoning", "knowledge"], "total": ["reasoning", "knowledge", "code"]}
    found = aggregate(parts, {"reasoning": (53.0, 1.0), "knowledge": (9.9, 1.0), "code": (4.8, 1.0)})
    assert round(found["natural_language"][0], 2) == 31.45 and round(found["total"][0], 1) == 22.6
    assert found["total"][1] == pytest.approx(math.sqrt(3) / 3)


def test_missing_tasks_are_named_in_every_mean_above_them():
    found = aggregate({"reasoning": ["a", "b"], "total": ["reasoning", "code"]}, {"a": (1.0, None)})
    assert found["reasoning"] == (1.0, None, ["a"], ["b"])
    assert found["total"][3] == ["code", "b"]
    assert aggregate({"code": ["x"]}, {}) == {}


def test_single_precision_values_are_counted_in_double_precision():
    values = np.random.default_rng(3).random(4001, dtype=np.float32)
    exact = values.astype(np.float64)
    assert estimate_mean(values) == estimate_mean(exact) and spread_over_seeds(values) == spread_over_seeds(exact)
    assert estimate_ratio(values, values + 1) == estimate_ratio(exact, (values + 1).astype(np.float64))
    assert compare_paired_ratio(values, values / 2, values + 1) == compare_paired_ratio(exact, exact / 2, (values + 1).astype(np.float64))


def test_values_that_are_not_finite_have_no_interval():
    """Draws without the item that is NaN gave one, and a verdict: "lower". Judge: numpy's mean is NaN."""
    values = np.array([0.5, np.nan, *np.linspace(0, 1, 20)])
    assert np.isnan(values.mean())
    for found in (
        estimate_mean(values), estimate_ratio(values, np.ones(22)), compare_paired(values, np.ones(22)),
        compare_paired_ratio(values, np.ones(22), np.ones(22)),
    ):  # fmt: skip
        assert np.isnan(found.value) and (found.low, found.high, found.standard_error) == (None, None, None)
    assert compare_paired(values, 3 + np.ones(22)).words == "not distinguishable"
