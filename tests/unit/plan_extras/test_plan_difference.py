"""`codemix plan --diff`: two plans side by side."""

import json

import pytest

from codemix_megatron.cli.main import main

SIZES = ["--assume-tokens", "prose=1M,web=1M", "--assume-vocab", "5K"]


@pytest.fixture
def other_recipe(small_recipe):
    """Write a recipe with another mixture, name of phase and learning rate."""
    path = small_recipe.with_name("other.yaml")
    text = small_recipe.read_text().replace("web: 0.25", "web: 0.0").replace("prose: 0.75", "prose: 1.0")
    path.write_text(text.replace("name: last", "name: final").replace("peak: 0.001", "peak: 0.002", 1))
    return path


def difference(capsys, *words) -> dict:
    """Run --diff with --json."""
    assert main(["plan", "--diff", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_sources_phases_and_settings_that_differ_are_named(small_recipe, other_recipe, capsys):
    found = difference(capsys, small_recipe, other_recipe, *SIZES)
    assert found["only_in_a"] == ["web"] and found["only_in_b"] == [] and found["assumed"] is True
    rows = {(row["phase"], row["source"]): row for row in found["rows"]}
    assert rows["first", "web"] == {
        "phase": "first",
        "source": "web",
        "tokens_a": 16000,
        "tokens_b": 0,
        "difference": -16000,
        "share_a": 0.25,
        "share_b": 0.0,
    }
    assert rows["last", "prose"]["tokens_b"] == 0 and rows["final", "prose"]["tokens_a"] == 0
    assert rows["whole run", "prose"]["difference"] == 16000
    settings = {row["setting"]: (row["a"], row["b"]) for row in found["settings"]}
    assert settings["phases.first.learning_rate.peak"] == (0.001, 0.002) and settings["phases.last.steps"] == (31, None)
    assert "steps" not in settings


def test_a_plan_a_run_folder_and_a_recipe_compare(small_recipe, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["plan", str(small_recipe), *SIZES, "--output", str(run / "plan.json"), "model.num_layers=8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "plan.json").read_text())
    assert difference(capsys, run, run / "plan.json")["settings"] == []
    found = difference(capsys, run, small_recipe, *SIZES)
    assert [row["setting"] for row in found["settings"]] == ["model.num_layers", "parameters"]
    assert all(row["difference"] == 0 for row in found["rows"])


def test_other_data_under_one_name_is_named(small_recipe, tmp_path, capsys):
    plans = []
    for size in ("1M", "2M"):
        plans.append(tmp_path / f"{size}.json")
        main(["plan", str(small_recipe), "--assume-tokens", f"prose={size},web=1M", "--assume-vocab", "5K", "--output", str(plans[-1])])
    capsys.readouterr()
    assert difference(capsys, *plans)["other_data"] == ["prose"]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_table_marks_what_is_on_one_side_alone(small_recipe, other_recipe, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["plan", "--diff", str(small_recipe), str(other_recipe), *SIZES]) == 0
    out = capsys.readouterr().out
    assert "ONLY IN A" in out and "none" in out and "learning_rate.peak" in out
    assert main(["plan", "--diff", str(small_recipe), str(small_recipe), *SIZES]) == 0
    assert "no difference" in capsys.readouterr().out


def test_what_is_no_plan_is_refused(small_recipe, tmp_path, capsys):
    (tmp_path / "other.json").write_text("{}")
    for path, said in (("missing.json", "nothing is there"), ("other.json", "not a plan")):
        assert main(["plan", "--diff", str(tmp_path / path), str(small_recipe), *SIZES]) == 2
        assert said in capsys.readouterr().err
    assert main(["plan", "--diff", "a.yaml", "b.yaml", "c.yaml"]) == 2
    assert "it compares two plans" in capsys.readouterr().err
    assert main(["plan"]) == 2
    assert "recipe: missing" in capsys.readouterr().err
