"""Planning with corpora of assumed sizes."""

import json

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.assumed import read_sizes
from codemix_megatron.plan.plan import find_corpora, make_plan
from codemix_megatron.recipe.reading import read_recipe


def test_sizes_come_from_pairs_and_files_and_later_ones_win(tmp_path):
    file = tmp_path / "sizes.yaml"
    file.write_text("prose: 5M\nelsewhere: 7B\n")
    assert read_sizes([str(file), "web=1.5M,prose=6M"], ["prose", "web"]) == {"prose": 6_000_000, "web": 1_500_000}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prsoe=5M"], "did you mean prose?"),
        (["prose=lots"], "prose: 'lots' is not a positive count"),
        (["missing.yaml"], "missing.yaml: cannot be read"),
        (["prose"], "give NAME=200B or a YAML file"),
    ],
)
def test_wrong_sizes_are_named(words, said):
    with pytest.raises(RecipeError, match=said) as raised:
        read_sizes(words, ["prose", "web"])
    assert str(raised.value).startswith("--assume-tokens: ")


def test_vocabulary_is_asked_for_when_nothing_knows_it(small_recipe):
    recipe = read_recipe(small_recipe)
    with pytest.raises(RecipeError, match="--assume-vocab: missing"):
        find_corpora(recipe, {"prose": 10**6, "web": 10**6})
    assert make_plan(recipe, find_corpora(recipe, {"prose": 10**6, "web": 10**6}, 5000)).vocab_size == 5000
    trained = read_recipe(small_recipe, ["tokenizer.train_vocab_size=300"])
    assert make_plan(trained, find_corpora(trained, {"prose": 10**6, "web": 10**6})).vocab_size == 300


def test_plan_says_that_sizes_are_assumed(small_recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", str(small_recipe), "--assume-tokens", "prose=40K,web=1M", "--assume-vocab", "5K"]) == 0
    assert "sizes of corpora are assumed" in capsys.readouterr().out
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["assumed"] is True and plan["sources"]["prose"]["assumed"] is True and plan["sources"]["prose"]["bin_sha256"] is None


def test_epoch_guard_holds_for_assumed_corpora(small_recipe, capsys):
    assert main(["plan", str(small_recipe), "--assume-tokens", "prose=10K,web=1M", "--assume-vocab", "5K"]) == 2
    assert "corpora.prose: 63872 tokens are asked for" in capsys.readouterr().err


def test_corpora_without_a_size_must_be_prepared(small_recipe, capsys):
    assert main(["plan", str(small_recipe), "--assume-tokens", "prose=10M", "--assume-vocab", "5K"]) == 2
    error = capsys.readouterr().err
    assert "corpora.web" in error and "corpora.prose" not in error


def test_plan_json_holds_what_figures_and_reports_read(small_recipe):
    recipe = read_recipe(small_recipe)
    plan = json.loads(json.dumps(make_plan(recipe, find_corpora(recipe, {"prose": 40_000, "web": 10**6}, 5000)).as_json()))
    assert plan["sources"]["prose"]["share_seen"] == 1.0 and plan["sources"]["prose"]["epochs"] > 1
    assert plan["sources"]["web"]["share_seen"] == pytest.approx(plan["sources"]["web"]["epochs"])
    assert set(plan["memory_by_recompute"]) == {"none", "selective", "full"}
    assert plan["memory_by_recompute"]["none"] == sum(plan["memory_bytes_per_rank"].values())
    assert plan["memory_by_recompute"]["full"] < plan["memory_by_recompute"]["none"]
    assert plan["model"]["hidden_size"] == 64 and plan["device"] is None


def test_learning_rate_curve_has_ends_and_corners_and_is_short(small_recipe):
    recipe = read_recipe(small_recipe, ["phases.0.tokens=6M", "phases.1.tokens=2M"])
    plan = make_plan(recipe, find_corpora(recipe, {"prose": 10**7, "web": 10**7}, 5000))
    curve = dict(plan.learning_rate_curve)
    assert len(curve) <= 200 and list(curve) == sorted(curve)
    first, last = plan.phases
    assert curve[10 * 512] == pytest.approx(1e-3), "the end of the warm-up"
    assert curve[first.tokens] == 0.0 and curve[plan.tokens] == 0.0
    half = (first.steps + last.steps - round(0.5 * last.steps)) * 512
    assert curve[half] == 1e-3, "where the decay begins"
