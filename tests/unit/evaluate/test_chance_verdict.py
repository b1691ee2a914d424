import pytest

from codemix_megatron.cli.evaluate import split_step
from codemix_megatron.records.scores import TaskScore


@pytest.mark.parametrize("value, error, chance, words", [
    (0.30, 0.03, 0.25, "not distinguishable from chance"),
    (0.32, 0.03, 0.25, "above chance"),
    (0.10, 0.03, 0.25, "below chance"),
    (1.00, 0.00, 0.25, "above chance"),
    (0.00, 0.00, 0.25, "not distinguishable from chance"),
    (0.90, 0.01, None, ""),
])  # fmt: skip
def test_two_standard_errors_decide(value, error, chance, words):
    items = 4 if error == 0 else 200
    score = TaskScore(suite="tasks", task="t", metric="acc", value=value, standard_error=error, items=items, chance=chance)
    assert score.against_chance == words


def test_step_stands_after_the_last_at(tmp_path):
    assert split_step("runs/demo@48") == ("runs/demo", 48)
    assert split_step("runs/demo") == ("runs/demo", None)
    assert split_step("runs/a@b@7") == ("runs/a@b", 7)
    (tmp_path / "a@1").mkdir()
    assert split_step(str(tmp_path / "a@1")) == (str(tmp_path / "a@1"), None)
