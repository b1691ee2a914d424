"""Length-controlled win rates, held against scikit-learn and against judges whose rule is known."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from codemix_megatron.analysis.length_control import control_length, fit_logistic


def judged(random, prompts: int, quality: float, by_length: float, longer: float, position: float = 0.0):
    """Return verdicts [prompts, 2] of a judge that likes quality, length and the first position, and the differences in length."""
    characters = random.normal(longer, 100, prompts)
    scaled = np.tanh(characters / characters.std())[:, None]
    chance = expit(quality + by_length * scaled + position * np.array([0.5, -0.5]))
    return random.random((prompts, 2)) < chance, characters


def test_coefficients_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    rows = np.stack([np.ones(300), random.normal(size=300), random.choice([0.5, -0.5], 300)], axis=1)
    outcomes = random.random(300) < expit(rows @ [0.3, 1.1, -0.4])
    weights = random.integers(0, 4, (3, 300)).astype(float)
    for weight, found in zip(weights, fit_logistic(rows, outcomes.astype(float), weights), strict=True):
        theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(rows, outcomes, sample_weight=weight)
        assert found == pytest.approx(theirs.coef_[0], abs=1e-4)


def test_a_judge_that_likes_nothing_but_length_gives_a_half_at_equal_lengths():
    verdicts, characters = judged(np.random.default_rng(1), 600, quality=0.0, by_length=3.0, longer=150)
    found = control_length(verdicts, characters, [f"p{i}" for i in range(600)])
    assert verdicts.mean() > 0.8 and found.low > 0.75
    assert found.controlled_low < 0.5 < found.controlled_high and found.controlled_high - found.controlled_low < 0.25


def test_quality_stays_when_length_is_controlled_and_the_place_does_not_matter():
    verdicts, characters = judged(np.random.default_rng(2), 600, quality=1.0, by_length=1.0, longer=-100, position=2.0)
    found = control_length(verdicts, characters, [f"p{i}" for i in range(600)])
    truth = expit([1 + 1, 1 - 1]).mean()
    assert found.controlled_low < truth < found.controlled_high and found.controlled > verdicts.mean()


def test_pairs_of_one_prompt_count_as_one_observation():
    """The same 40 prompts ten times over say no more than once: a cluster bootstrap keeps its width, one over pairs would shrink it."""
    verdicts, characters = judged(np.random.default_rng(3), 40, quality=0.5, by_length=0.5, longer=20)
    once = control_length(verdicts, characters, [f"p{i}" for i in range(40)])
    often = control_length(np.tile(verdicts, (10, 1)), np.tile(characters, 10), [f"p{i}" for i in range(40)] * 10)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.1)
    apart = control_length(np.tile(verdicts, (10, 1)), np.tile(characters, 10), [f"p{i}" for i in range(400)])
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_interval_of_the_raw_rate_holds_the_truth_about_19_times_in_20():
    random, held = np.random.default_rng(4), 0
    for _ in range(60):
        verdicts, characters = judged(random, 60, quality=0.4, by_length=0.0, longer=0)
        found = control_length(verdicts, characters, [f"p{i}" for i in range(60)])
        held += found.low <= expit(0.4) <= found.high
    assert 50 <= held <= 60


def test_what_cannot_be_controlled_says_so():
    assert control_length(np.ones((1, 2)), np.zeros(1), ["p"]) is None
    found = control_length(np.ones((20, 2)), np.arange(20.0), [f"p{i}" for i in range(20)])
    assert (found.low, found.high, found.controlled) == (1.0, 1.0, None), "a side that always wins"
    few = control_length(np.eye(2), np.array([1.0, 2.0]), ["p", "q"])
    assert few is not None and few.controlled is None
