from dataclasses import replace

import pytest
from scipy.stats import binomtest

from codemix_megatron.cli.evaluate import split_step
from codemix_megatron.records.scores import TaskScore


def score_of(value, items, chance, **others) -> TaskScore:
    return TaskScore(suite="tasks", task="t", metric="acc", value=value, standard_error=None, items=items, chance=chance, **others)


@pytest.mark.parametrize(
    "right, items, chance", [(60, 200, 0.25), (65, 200, 0.25), (20, 200, 0.25), (4, 4, 0.25), (0, 4, 0.25), (2, 10, 0.5)]
)
def test_right_and_wrong_answers_are_judged_by_the_binomial(right, items, chance):
    is_other = binomtest(right, items, chance).pvalue < 0.05
    side = "above chance" if right / items > chance else "below chance"
    assert score_of(right / items, items, chance).against_chance == (side if is_other else "not distinguishable from chance")


def test_two_of_ten_on_boolq_are_not_below_chance():
    assert score_of(0.2, 10, 0.5, majority=0.622).against_chance == "not distinguishable from chance"


def test_a_model_that_always_says_yes_is_not_above_chance():
    always_yes = score_of(2033 / 3270, 3270, 0.5, majority=2033 / 3270)
    assert always_yes.floor == 2033 / 3270 and always_yes.against_chance == "not distinguishable from chance"
    assert score_of(2033 / 3270, 3270, 0.5).against_chance == "above chance", "guessing alone would have called it so"
    assert score_of(0.40, 3270, 0.5, majority=0.622).against_chance == "below chance"


def test_values_that_are_no_counts_are_judged_by_two_standard_errors():
    score = TaskScore(suite="s", task="t", metric="choice_probability", value=0.32, standard_error=0.03, items=200, chance=0.25)
    assert score.against_chance == "above chance"
    assert replace(score, value=0.30).against_chance == "not distinguishable from chance"
    assert score_of(0.9, 200, None).against_chance == ""


def test_step_stands_after_the_last_at(tmp_path):
    assert split_step("runs/demo@48") == ("runs/demo", 48)
    assert split_step("runs/demo") == ("runs/demo", None)
    assert split_step("runs/a@b@7") == ("runs/a@b", 7)
    (tmp_path / "a@1").mkdir()
    assert split_step(str(tmp_path / "a@1")) == (str(tmp_path / "a@1"), None)
