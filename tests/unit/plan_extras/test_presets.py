"""Every recipe under examples/ is read, planned, and asks for the paper's budgets."""

from pathlib import Path

import pytest
from presets_plan import EXAMPLES, SIZES, plan_of

from codemix_megatron.plan.difference import compare_plans
from codemix_megatron.recipe.presets import preset_files
from codemix_megatron.study.presets import study_files

NO_RECIPES = (
    "studies/paper",
    "studies/mini",
    "studies/mini-seeds",
    "studies/sizes",
    "studies/synthetic",
    "studies/solutions-suite",
    "paper/sizes",
)
BY_HAND = {"studies/mini-seeds.yaml", "studies/sizes.yaml", "studies/synthetic.yaml", "studies/solutions-suite.yaml"}
FOUND = (str(path.relative_to(EXAMPLES).with_suffix("")) for path in EXAMPLES.rglob("*.yaml"))
RECIPES = sorted(name for name in FOUND if name not in NO_RECIPES)

# Billions of tokens of text and code per phase: Table 2 and section 3 of the paper.
BUDGETS = {
    "text-only": [(400, 0), (32, 8)],
    "balanced-only": [(200, 200), (32, 8)],
    "balanced-only-synth": [(200, 200), (32, 8)],
    "balanced-to-text": [(100, 100), (180, 20), (32, 8)],
    "balanced-to-text-synth": [(100, 100), (180, 20), (32, 8)],
    "code-to-text": [(0, 200), (180, 20), (32, 8)],
    "code-to-text-synth": [(0, 200), (180, 20), (32, 8)],
    "cooldown-with-code": [(32, 8)],
    "cooldown-without-code": [(40, 0)],
    "quality-code": [(0, 200)],
    "quality-code-markup": [(0, 200)],
    "quality-code-adjacent": [(0, 200)],
    "quality-code-synth": [(0, 200)],
    **{f"sweep-{percent:03}": [(200 - 2 * percent, 2 * percent)] for percent in (0, 25, 50, 75, 90, 100)},
}


def test_presets_on_disk_are_what_the_script_writes():
    files = {**preset_files(), **study_files()}
    written = [
        path for folder in ("paper", "mini", "studies") for path in (EXAMPLES / folder).rglob("*") if path.suffix in (".yaml", ".md")
    ]
    assert {str(path.relative_to(EXAMPLES)) for path in written} == {*files, *BY_HAND}
    stale = [name for name, text in files.items() if (EXAMPLES / name).read_text(encoding="utf-8") != text]
    assert not stale, "run tools/write_presets.py"


@pytest.mark.parametrize("name", RECIPES)
def test_example_is_read_and_planned(name):
    plan = plan_of(name)
    assert plan.assumed and plan.steps == plan.first_step + sum(phase.steps for phase in plan.phases)


def test_every_budget_of_the_paper_has_a_preset():
    assert {name.removeprefix("paper/470m/") for name in RECIPES if name.startswith("paper/470m/")} == set(BUDGETS)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("paper/")])
def test_totals_per_source_are_the_papers_to_within_a_batch(name):
    plan = plan_of(name)
    assert plan.batch_tokens == 512 * 8192
    for phase, (text, code) in zip(plan.phases, BUDGETS[Path(name).name], strict=True):
        got = {"text": 0, "code": 0}
        for source, planned in phase.sources.items():
            got["text" if source in ("text", "cooldown_text") else "code"] += planned.tokens
        assert abs(got["text"] - text * 1e9) <= plan.batch_tokens and abs(got["code"] - code * 1e9) <= plan.batch_tokens


def test_parts_of_code_are_the_papers():
    shares = {name: {s: p.share for s, p in plan_of(f"paper/470m/{name}").phases[0].sources.items()} for name in BUDGETS}
    assert shares["quality-code"] == {"web_code": 1.0}
    assert shares["quality-code-markup"] == pytest.approx({"web_code": 0.8, "markup": 0.2})
    assert shares["sweep-100"] == shares["quality-code-markup"]
    assert shares["quality-code-adjacent"] == pytest.approx({"web_code": 0.85, "code_adjacent": 0.15})
    assert shares["quality-code-synth"]["synthetic"] == pytest.approx(0.1)
    assert shares["code-to-text-synth"] == shares["quality-code-synth"]


def test_models_have_the_papers_sizes():
    assert plan_of("paper/470m/text-only").parameters["total"] == pytest.approx(470e6, rel=0.01)
    assert plan_of("paper/2.8b/text-only").parameters["total"] == pytest.approx(2.8e9, rel=0.03)


def test_repetition_is_raised_only_where_the_budget_asks_for_it():
    repeated = {name: plan_of(f"paper/470m/{name}").sources["synthetic"]["epochs"] for name in BUDGETS if name.endswith("synth")}
    assert repeated["balanced-only-synth"] == pytest.approx(6.25, abs=0.01)
    assert repeated["balanced-to-text-synth"] == pytest.approx(3.125, abs=0.01)
    texts = {name: (EXAMPLES / f"paper/470m/{name}.yaml").read_text() for name in BUDGETS}
    assert {name for name, text in texts.items() if "max_epochs" in text} == {name for name, epochs in repeated.items() if epochs > 4}
    assert SIZES["synthetic"] == 3_200_000_000


@pytest.mark.parametrize("scale", ["paper/470m", "mini"])
def test_cooldowns_start_where_the_parents_second_phase_ends(scale):
    """The data order goes on too: what the parent's phases read counts, and the planned reading is that of the whole run."""
    child, parent = plan_of(f"{scale}/cooldown-with-code"), plan_of(f"{scale}/balanced-to-text")
    end = parent.phases[1].first_step + parent.phases[1].steps - 1
    assert (Path(child.branch.run).resolve(), child.branch.step) == (EXAMPLES.parent / "runs" / parent.name, end)
    assert child.model == parent.model and child.phases == parent.phases[2:]
    assert {name: source["epochs"] for name, source in child.sources.items()} == {
        name: source["epochs"] for name, source in parent.sources.items()
    }


def test_difference_names_the_synthetic_source():
    difference = compare_plans(*(plan_of(f"paper/470m/balanced-to-text{end}").as_json() for end in ("", "-synth")))
    assert difference["only_in_b"] == ["synthetic"] and difference["only_in_a"] == []
    assert difference["settings"] == []
    rows = {(row["phase"], row["source"]): row for row in difference["rows"]}
    assert rows["init", "synthetic"]["tokens_a"] == 0 and rows["init", "synthetic"]["share_b"] == pytest.approx(0.05)
    assert rows["init", "text"]["difference"] == 0 and rows["continue", "web_code"]["difference"] == 0
    assert sum(row["difference"] for row in difference["rows"]) == 0
