"""What reading a corpus again is worth, beside scipy's integral of the published decay; warnings in place of refusals."""

import math

import pytest
import yaml
from scipy.integrate import quad
from tiny_run import RECIPE

from codemix_megatron.cli.main import main
from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.assumed import assume_corpora
from codemix_megatron.plan.plan import make_plan
from codemix_megatron.plan.repetition import worth_of_epochs
from codemix_megatron.recipe.reading import build_recipe


@pytest.mark.parametrize("epochs", [1, 1.5, 4, 8, 16, 44])
def test_worth_is_the_sum_of_tokens_whose_value_decays_with_each_reading(epochs):
    """A token read again r times is worth exp(-r / 15.39) of a new one (Muennighoff et al. 2023)."""
    wanted = 1 + quad(lambda r: math.exp(-r / 15.39), 0, epochs - 1)[0]
    assert worth_of_epochs(epochs) == pytest.approx(wanted, rel=1e-9)


def test_four_readings_are_nearly_free_and_forty_are_not():
    """The paper's own reading of its law: up to four epochs are nearly as good as new data, beyond forty there is nothing to be had."""
    assert worth_of_epochs(4) > 0.93 * 4 and worth_of_epochs(0.5) == 0.5
    assert worth_of_epochs(1e9) == pytest.approx(16.39) and worth_of_epochs(44) > 0.93 * 16.39


def repeated(tmp_path, **changes):
    """Return the plan of the tiny recipe over a corpus that is read some eleven times."""
    plain = {**RECIPE, "corpora": {**RECIPE["corpora"], "prose": {**RECIPE["corpora"]["prose"], **changes}}}
    recipe = build_recipe(plain, directory=tmp_path)
    return make_plan(recipe, assume_corpora(recipe, {"prose": 600, "snippets": 10**5}, None, {}))


def test_repetition_beyond_the_limit_is_refused_or_taken_on_with_its_price(tmp_path):
    with pytest.raises(RecipeError, match=r"at most 4 are allowed; .*or take it on with beyond_max_epochs: warn"):
        repeated(tmp_path)
    plan = repeated(tmp_path, beyond_max_epochs="warn")
    (warning,) = plan.warnings
    epochs = plan.sources["prose"]["epochs"]
    assert f"read {epochs:.2f} times, more than max_epochs 4" in warning and f"worth {worth_of_epochs(epochs):.2f} readings" in warning
    assert "2305.16264" in warning and "15 to 20 readings (arXiv 2605.12715)" in warning
    assert not repeated(tmp_path, max_epochs=50).warnings and plan.as_json()["warnings"] == [warning]


def test_plan_prints_the_price(tmp_path, capsys):
    plain = {**RECIPE, "corpora": {**RECIPE["corpora"], "prose": {**RECIPE["corpora"]["prose"], "beyond_max_epochs": "warn"}}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    words = ["plan", str(tmp_path / "recipe.yaml"), "--assume-tokens", "prose=600,snippets=100K", "--output", str(tmp_path / "plan.json")]
    assert main(words) == 0
    assert "warning: corpora.prose: read" in " ".join(capsys.readouterr().out.split())
