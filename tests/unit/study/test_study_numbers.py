"""The numbers of a study before it starts, each worked out again from its recipes by plain arithmetic."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_study import graph_of, planned

from codemix_megatron.errors import CorpusError, RecipeError
from codemix_megatron.plan.devices import DEVICES
from codemix_megatron.plan.plan import find_corpora
from codemix_megatron.recipe.schema import CheckpointPolicy
from codemix_megatron.study.planning import code_share, plan_study, remember_corpora

BATCH = 512  # tokens of a step: 8 sequences of 64


def with_recipes(graph, policy: CheckpointPolicy, precision: str):
    """Return the graph with another policy of checkpoints and another precision in every recipe."""

    def changed(recipe):
        return replace(recipe, checkpoint=policy, model=replace(recipe.model, precision=precision))

    return replace(graph, segments={name: replace(s, recipe=changed(s.recipe)) for name, s in graph.segments.items()})


def test_study_counts_every_segment_once_and_says_what_variants_alone_would_take(tmp_path):
    plain = planned(graph_of(tmp_path)).as_json()
    assert plain["variants"]["longer"] == ["plain.balanced", "longer.text", "longer"]
    assert (plain["tokens"], plain["tokens_alone"]) == (BATCH * (12 + 8 + 4 + 8 + 8), BATCH * (20 + 24 + 24))
    assert plain["device"] is None and plain["mfu"] is None and "device_hours" not in plain and "device_hours_alone" not in plain
    steps = {name: (s["first_step"], s["steps"], s["tokens"]) for name, s in plain["segments"].items()}
    assert steps == {
        "plain.balanced": (0, 12, 12 * BATCH),
        "plain": (12, 8, 8 * BATCH),
        "longer.text": (12, 4, 4 * BATCH),
        "longer": (16, 8, 8 * BATCH),
        "no-code": (16, 8, 8 * BATCH),
    }
    assert plain["segments"]["plain.balanced"] | {"code_share": None} == {
        "phase": "balanced",
        "parent": None,
        "variants": ["plain", "longer", "no-code"],
        "ends": [],
        "first_step": 0,
        "steps": 12,
        "tokens": 12 * BATCH,
        "code_share": None,
    }
    assert plain["segments"]["no-code"]["ends"] == ["no-code"] and plain["segments"]["no-code"]["parent"] == "longer.text"


def test_share_of_code_is_of_the_tokens_drawn(tmp_path):
    plans = planned(graph_of(tmp_path)).plans
    shares = {name: code_share(plan) for name, plan in plans.items()}
    assert shares == {"plain.balanced": 0.5, "plain": 13 / 64, "longer.text": 3 / 32, "longer": 13 / 64, "no-code": 0.0}


def test_hours_of_a_device_are_operations_over_its_peak_and_share(tmp_path):
    graph = graph_of(tmp_path)
    study = planned(graph, device="h100", mfu=0.25)
    plain, operations = study.as_json(), {name: plan.flops["total"] for name, plan in planned(graph).plans.items()}
    hours = {name: each / (989e12 * 0.25) / 3600 for name, each in operations.items()}
    assert DEVICES["h100"].teraflops == 989 and (plain["device"], plain["mfu"]) == ("h100", 0.25)
    assert {name: s["device_hours"] for name, s in plain["segments"].items()} == pytest.approx(hours)
    assert plain["device_hours"] == pytest.approx(sum(hours.values()))
    assert plain["device_hours_alone"] == pytest.approx(sum(hours[name] for path in graph.paths.values() for name in path))
    assert planned(graph, device="h100").mfu == 0.4


@pytest.mark.parametrize(
    ("policy", "kept"),
    [  # segments of 12, 8, 4, 8, 8 steps; tokens kept for good at every 2,048
        (CheckpointPolicy(every_steps=None, keep_last=2), 5),
        (CheckpointPolicy(every_steps=4, keep_last=9), 5 + 2 + 1 + 0 + 1 + 1),  # what is saved at its last step is its end
        (CheckpointPolicy(every_steps=3, keep_last=2), 5 + 2 + 2 + 1 + 2 + 2),
        (CheckpointPolicy(every_steps=3, keep_last=1, keep_every_tokens=4 * BATCH), 5 + 5 + 3 + 2 + 1 + 2 + 2),
        (CheckpointPolicy(every_steps=3, keep_last=1, keep_every_tokens=5 * BATCH), 5 + 5 + 2 + 1 + 0 + 1 + 1),
    ],
)
@pytest.mark.parametrize(("precision", "per_parameter"), [("fp32", 16), ("bf16", 14)])
def test_storage_is_that_of_the_checkpoints_that_stay(tmp_path, policy, kept, precision, per_parameter):
    study = planned(with_recipes(graph_of(tmp_path), policy, precision))
    (parameters,) = {plan.parameters["total"] for plan in study.plans.values()}
    assert study.checkpoint_bytes() == study.as_json()["checkpoint_bytes"] == kept * per_parameter * parameters


def test_faults_of_all_segments_are_told_once_each_and_none_for_the_children_of_one(tmp_path):
    graph = graph_of(tmp_path)
    looked: list[str] = []

    def find(recipe):
        looked.append(recipe.name)
        if recipe.name in ("longer.text", "plain"):
            raise RecipeError(["the same fault", f"one of {recipe.name}"])
        return find_corpora(recipe, {"prose": 10**5, "snippets": 10**5})

    with pytest.raises(RecipeError) as caught:
        plan_study(graph, find, Path("/runs"))
    assert sorted(looked) == ["longer.text", "plain", "plain.balanced"]
    first = next(name for name in looked if name != "plain.balanced")
    assert sorted(caught.value.faults) == sorted([f"{first}: the same fault", "longer.text: one of longer.text", "plain: one of plain"])


def test_segments_after_the_children_of_a_faulty_one_are_planned_too(tmp_path):
    def change(study):
        study["variants"]["again"] = {"overrides": {"seed": 99}}

    graph, looked = graph_of(tmp_path, change), []

    def find(recipe):
        looked.append(recipe.name)
        if recipe.name == "plain.balanced":
            raise RecipeError("of the first root")
        return find_corpora(recipe, {"prose": 10**5, "snippets": 10**5})

    with pytest.raises(RecipeError, match=r"plain\.balanced: of the first root"):
        plan_study(graph, find, Path("/runs"))
    assert looked == ["plain.balanced", "again.balanced", "again"]


def test_a_segment_is_planned_as_a_branch_of_its_parents_run(tmp_path):
    plans = planned(graph_of(tmp_path)).plans
    branches = {name: plan.branch and (plan.branch.run, plan.branch.step) for name, plan in plans.items()}
    assert branches == {
        "plain.balanced": None,
        "plain": ("/runs/plain.balanced", 12),
        "longer.text": ("/runs/plain.balanced", 12),
        "longer": ("/runs/longer.text", 16),
        "no-code": ("/runs/longer.text", 16),
    }


def test_corpora_are_looked_for_once_and_what_went_wrong_is_raised_again(tmp_path):
    graph, asked = graph_of(tmp_path), []
    recipe = graph.segments["plain"].recipe
    elsewhere = replace(recipe, corpora={n: replace(spec, prefix="there/" + n) for n, spec in recipe.corpora.items()})

    def find(recipe):
        asked.append(recipe)
        if recipe is elsewhere:
            raise CorpusError("not there")
        return {"found": len(asked)}

    look = remember_corpora(find)
    assert look(recipe) == look(replace(recipe, name="other", seed=99)) == {"found": 1}
    for _ in range(2):
        with pytest.raises(CorpusError, match="not there"):
            look(elsewhere)
    assert look(replace(recipe, tokenizer=None)) == {"found": 3} and len(asked) == 3
