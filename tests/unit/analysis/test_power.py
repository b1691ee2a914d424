"""Power, held against simulations that scipy alone judges."""

import math

import numpy as np
import pytest
from scipy import stats

from codemix_megatron.analysis.effects import RunNoise
from codemix_megatron.analysis.power import lent_power, seeds_needed, welch_power


@pytest.mark.parametrize("effect, seeds, comparisons", [(2.0, 3, 1), (1.0, 5, 1), (3.0, 4, 10), (6.0, 2, 1), (30.0, 3, 84)])
def test_power_is_how_often_scipy_finds_the_effect(effect, seeds, comparisons):
    random = np.random.default_rng(0)
    ours, base = random.normal(effect, 1, (8000, seeds)), random.normal(0, 1, (8000, seeds))
    found = stats.ttest_ind(ours, base, axis=1, equal_var=False).pvalue < 0.05 / comparisons
    assert welch_power(effect, 1.0, seeds, comparisons) == pytest.approx(found.mean(), abs=0.015)


def test_lent_noise_gives_single_runs_their_power():
    random, noise = np.random.default_rng(1), RunNoise(deviation=2.0, degrees=8, source="")
    found = np.abs(random.normal(9, 2, 8000) - random.normal(0, 2, 8000)) > stats.t.ppf(0.975, 8) * 2 * math.sqrt(2)
    assert lent_power(9, noise, 1) == pytest.approx(found.mean(), abs=0.015)


def test_one_seed_has_no_power_and_no_effect_is_found_at_its_level():
    assert welch_power(100, 1, 1) == 0.0
    assert 0.02 < welch_power(0, 1, 3) < 0.05, "Welch's test is cautious with few seeds"


def test_fewest_seeds_are_enough_and_one_less_are_not():
    for effect in (0.7, 1.5, 4.0):
        needed = seeds_needed(effect, 1.0, comparisons=5)
        assert welch_power(effect, 1.0, needed, 5) >= 0.8 > welch_power(effect, 1.0, needed - 1, 5)
    assert seeds_needed(0.1, 1.0, most=20) is None
