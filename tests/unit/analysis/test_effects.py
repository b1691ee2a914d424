"""Effects over runs, held against scipy and against published runs."""

import csv
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize, stats
from tiny_run import REPOSITORY

from codemix_megatron.analysis.comparing import compare_paired, mcnemar
from codemix_megatron.analysis.effects import (
    RunNoise,
    effect_from_constant,
    effect_of_contrast,
    effect_of_pairs,
    effect_over_seeds,
    effect_with_noise,
    held_against,
    holm,
    pool_noise,
    ratio_interval,
)
from codemix_megatron.analysis.noise import PUBLISHED, lend_mean_noise, lend_noise

TABLE = REPOSITORY.parent / "shared" / "data" / "mixture_runs" / "datablations_python.csv"
NAMES = {"storycloze": "StoryCloze 2016", "winogrande": "WinoGrande XL", "cb": "CB", "copa": "COPA", "rte": "RTE"}


def rows_of_table() -> list[dict]:
    """Return the published rows with five seeds."""
    if not TABLE.is_file():
        pytest.skip(f"needs the published runs in {TABLE}")
    with open(TABLE, encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if row["seeds"] == "5"]


def values_with(mean: float, population_deviation: float) -> list[float]:
    """Return five values with this mean and population standard deviation."""
    shape = np.array([-2, -1, 0, 1, 2]) / math.sqrt(2)
    return list(mean + population_deviation * shape)


def test_one_seed_on_a_side_decides_nothing():
    for ours, base in (([1.0], [2.0]), ([1.0, 1.1], [2.0]), ([1.0, 1.0], [2.0, 2.0])):
        effect = effect_over_seeds(ours, base)
        assert (effect.p_value, effect.low, effect.high) == (None, None, None) and not effect.is_decidable


def test_intervals_and_p_values_are_welchs_by_hand():
    ours, base = [3.1, 3.4, 2.9], [2.0, 2.6, 2.2, 2.4]
    a, b = np.var(ours, ddof=1) / 3, np.var(base, ddof=1) / 4
    degrees = (a + b) ** 2 / (a**2 / 2 + b**2 / 3)
    value, error = np.mean(ours) - np.mean(base), math.sqrt(a + b)
    effect = effect_over_seeds(ours, base)
    assert (effect.value, effect.p_value) == pytest.approx((value, 2 * stats.t.sf(value / error, degrees)))
    reach = stats.t.ppf(0.975, degrees) * error
    assert (effect.low, effect.high) == pytest.approx((value - reach, value + reach))


def test_pairs_from_one_trunk_leave_the_trunks_noise_out():
    trunk = np.array([0.0, 5.0, 10.0, 3.0])
    ours, base = trunk + np.array([1.0, 1.1, 0.9, 1.05]), trunk
    assert effect_of_pairs(ours, base).p_value < 1e-3 < effect_over_seeds(ours, base).p_value
    assert effect_of_pairs(ours, base).p_value == pytest.approx(stats.ttest_1samp(ours - base, 0).pvalue)


def test_a_spread_that_is_small_by_chance_gives_no_verdict_alone():
    """Three seeds that happen to agree, among variants that do not: the p value is scipy's with the error of an analysis of variance."""
    groups = [[1.000, 1.001, 1.002], [1.010, 1.011, 1.012], [1.0, 1.1, 0.9], [1.2, 1.0, 1.1]]
    effect = effect_over_seeds(groups[1], groups[0])
    held = held_against(effect, pool_noise(groups, "this study"))
    error = math.sqrt(np.mean([np.var(group, ddof=1) for group in groups]) * 2 / 3)
    assert effect.p_value < 0.001 and held.p_value == pytest.approx(2 * stats.t.sf(0.01 / error, 8)) and held.p_value > 0.5
    assert (held.low, held.high, held.method) == (effect.low, effect.high, effect.method), "the interval stays the pair's own"
    assert held_against(effect, None) == effect
    alone = held_against(effect, pool_noise(groups[:2], "the pair"))
    assert alone.p_value == effect.p_value, "of two variants with as many seeds, Welch's is the larger"


def test_differences_from_a_constant_and_of_differences_are_those_of_scipy():
    random = np.random.default_rng(0)
    ours, base, others, other_base = (random.normal(size=n) for n in (3, 4, 5, 3))
    found, wanted = effect_from_constant(ours, 0.7), stats.ttest_1samp(ours, 0.7)
    assert (found.p_value, found.low + 0.7) == pytest.approx((wanted.pvalue, wanted.confidence_interval(0.95).low))
    assert not effect_from_constant([1.0], 0.7).is_decidable and not effect_from_constant([1.0, 1.0], 0.7).is_decidable
    found, wanted = effect_of_contrast((ours, base), (1, -1)), stats.ttest_ind(ours, base, equal_var=False)
    assert (found.p_value, found.high) == pytest.approx((wanted.pvalue, wanted.confidence_interval(0.95).high))
    assert effect_of_contrast((ours, base, others, other_base), (1, -1, -1, 1)).value == pytest.approx(
        ours.mean() - base.mean() - others.mean() + other_base.mean()
    )
    assert not effect_of_contrast(([1.0], base), (1, -1)).is_decidable


def test_assumed_noise_widens_with_few_runs_and_names_its_source():
    noise = RunNoise(deviation=0.5, degrees=8, source="somebody")
    effect = effect_with_noise([1.0], [0.0], noise)
    assert effect.p_value == pytest.approx(2 * stats.t.sf(1 / (0.5 * math.sqrt(2)), 8)) and effect.noise == "somebody"
    assert effect_with_noise([1.0, 1.0], [0.0, 0.0], noise).high < effect.high
    assert effect_with_noise([1.0], [0.0], RunNoise(deviation=0.5, degrees=math.inf, source="")).high < effect.high


def test_pooled_noise_is_the_error_of_an_analysis_of_variance():
    groups = [[1.0, 1.2, 1.1], [2.0, 2.5], [7.0]]
    inner = sum(np.var(group, ddof=1) * (len(group) - 1) for group in groups[:2])
    noise = pool_noise(groups, "")
    assert (noise.deviation, noise.degrees) == pytest.approx((math.sqrt(inner / 3), 3))
    assert pool_noise([[1.0], [2.0]], "") is None and pool_noise([[1.0, 1.0]], "") is None


def test_holm_steps_down_as_he_wrote():
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.random(random.integers(1, 9)) ** 3
        rejected, level = set(), 0.05
        for rank, index in enumerate(np.argsort(values)):
            if values[index] > level / (len(values) - rank):
                break
            rejected.add(int(index))
        assert {i for i, p in enumerate(holm(list(values))) if p <= level} == rejected
    assert holm([]) == []


def test_ratio_interval_holds_the_truth_about_19_times_in_20():
    random, held = np.random.default_rng(4), 0
    for _ in range(1000):
        ratio, low, high = ratio_interval(random.normal(1.2, 0.05, 4), random.normal(1.0, 0.04, 4))
        assert low < ratio < high
        held += low <= 1.2 <= high
    assert 930 <= held <= 975


def test_few_changed_items_are_judged_exactly():
    ours, theirs = np.zeros(164), np.zeros(164)
    ours[:4] = 1
    difference = compare_paired(ours, theirs)
    assert mcnemar(4, 0) == difference.p_value == 0.125 == stats.binomtest(4, 4).pvalue
    assert difference.words == "not distinguishable" and difference.low < 0 < difference.high
    theirs[100:102], ours[:20] = 1, 1
    assert compare_paired(ours, theirs).p_value == pytest.approx(stats.binomtest(20, 22).pvalue)
    assert compare_paired(ours, theirs).words == "higher"
    assert compare_paired([0.1, 0.2, 0.4], [0.2, 0.1, 0.1]).p_value is None, "not right or wrong: no counts to test"


def test_lent_noise_is_the_published_one():
    sizes = {"2.8b": 2.8e9, "4.2b": 4.2e9}
    rows = rows_of_table()
    for size, scale in sizes.items():
        for task, (chance, deviations) in PUBLISHED[scale].items():
            name = NAMES.get(task, task.replace("_", " "))
            found = [row for row in rows if row["size"] == size and row["task"].replace("-", " ").lower() == name.replace("-", " ").lower()]
            assert tuple(float(row["standard_deviation_over_seeds"]) for row in found) == deviations, task
            sample = max(deviations) * math.sqrt(5 / 4) / 100 * (1 - chance)
            assert lend_noise(task, scale).deviation == pytest.approx(sample)
    assert lend_noise("mbpp", 4e9) is None and lend_mean_noise(["piqa", "mbpp"], 4e9) is None
    mean = lend_mean_noise(["piqa", "boolq"], 4e8)
    assert mean.deviation == pytest.approx((lend_noise("piqa", 4e8).deviation + lend_noise("boolq", 4e8).deviation) / 2)
    assert lend_noise("piqa", None) is not None


def test_published_shares_that_differ_from_no_code_are_those_of_scipy():
    rows = [row for row in rows_of_table() if row["size"] == "4.2b" and not row["task"].startswith("Average")]
    moments = {(row["task"], int(row["python_percent"])): (float(row["mean"]), float(row["standard_deviation_over_seeds"])) for row in rows}
    pairs = [(task, share) for task, share in moments if share and moments[task, share][1] + moments[task, 0][1] > 0]
    ours = [effect_over_seeds(values_with(*moments[pair]), values_with(*moments[pair[0], 0])) for pair in pairs]
    adjusted = holm([effect.p_value for effect in ours])

    sample = math.sqrt(5 / 4)
    alone = []
    for task, share in pairs:
        (mean, deviation), (base, base_deviation) = moments[task, share], moments[task, 0]
        alone.append(stats.ttest_ind_from_stats(mean, deviation * sample, 5, base, base_deviation * sample, 5, equal_var=False).pvalue)
    order = np.argsort(alone)
    steps = [min(1.0, (len(alone) - rank) * alone[index]) for rank, index in enumerate(order)]
    wanted = dict(zip(order.tolist(), np.maximum.accumulate(steps), strict=True))
    assert adjusted == pytest.approx([wanted[i] for i in range(len(pairs))])

    different = {task: sorted(share for i, (t, share) in enumerate(pairs) if t == task and adjusted[i] < 0.05) for task, _ in pairs}
    different = {task: shares for task, shares in different.items() if shares}
    print(f"{len(pairs)} comparisons; distinguished from no code: {different}")
    assert different["ARC-Challenge"] == [60, 70, 80, 90] and "BoolQ" not in different and "HellaSwag" not in different
    assert all(low < high for shares in different.values() for low, high in pairwise(shares))


@pytest.mark.parametrize("seed", range(5))
def test_bounds_of_a_ratio_are_where_a_t_test_just_tells_them_from_it(seed):
    random = np.random.default_rng(seed)
    ours, base = random.normal(1.3, 0.1, 4), random.normal(1.0, 0.08, 3)
    ratio, low, high = ratio_interval(ours, base)
    above, below = ours.var(ddof=1) / 4, base.var(ddof=1) / 3
    degrees = (above + ratio**2 * below) ** 2 / (above**2 / 3 + (ratio**2 * below) ** 2 / 2)

    def excess(tried: float) -> float:  # of the t statistic of ours - tried x base over its 97.5 % quantile
        return abs(ours.mean() - tried * base.mean()) / np.sqrt(above + tried**2 * below) - stats.t.ppf(0.975, degrees)

    assert ratio == pytest.approx(ours.mean() / base.mean())
    assert low == pytest.approx(optimize.brentq(excess, -5, ratio)) and high == pytest.approx(optimize.brentq(excess, ratio, 50))
