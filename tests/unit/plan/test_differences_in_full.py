"""Two plans side by side, every field of the comparison; epochs that are refused or warned of, in full."""

import copy

import pytest
from test_plan import manifest
from tiny_run import RECIPE

from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.branch import find_branch_point
from codemix_megatron.plan.difference import compare_plans
from codemix_megatron.plan.plan import make_plan
from codemix_megatron.plan.sources import guard_epochs
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.yaml_text import apply_overrides

RATE = {"schedule": "cosine", "peak": 0.003, "final": 0.0, "warmup_tokens": 0, "start": 0.0, "decay_share": 0.1, "decay": "linear"}


def plan_of(name: str, sources: dict[str, int], **more: object) -> dict:
    """Return what plan.json holds of a run of one phase, as far as it is compared."""
    totals = {source: {"tokens": tokens, "bin_sha256": f"sha of {source}"} for source, tokens in sources.items()}
    phase = {"name": "all", "sources": copy.deepcopy(totals), "steps": 10, "learning_rate": RATE, "batches": [[10, 8]]}
    plain = {"name": name, "steps": 10, "tokens": 5120, "seed": 1, "sequence_length": 64, "global_sequences": 8, "vocab_size": 512}
    return {
        **plain,
        "model": {"num_layers": 4, "sequence_length": 64},
        "parameters": {"total": 100},
        "phases": [phase],
        "sources": totals,
        **more,
    }


def test_plans_that_are_alike_differ_in_nothing():
    plan = plan_of("one", {"text": 3000, "code": 1000})
    assert compare_plans(plan, plan_of("two", {"text": 3000, "code": 1000})) == {
        "a": "one", "b": "two", "assumed": False, "only_in_a": [], "only_in_b": [], "other_data": [], "settings": [],
        "rows": [
            {"phase": phase, "source": source, "tokens_a": tokens, "tokens_b": tokens, "difference": 0, "share_a": share, "share_b": share}
            for phase in ("all", "whole run")
            for source, tokens, share in (("text", 3000, 0.75), ("code", 1000, 0.25))
        ],
    }  # fmt: skip


@pytest.mark.parametrize(("a", "b", "assumed"), [(True, False, True), (False, True, True), (False, False, False)])
def test_one_plan_of_assumed_sizes_makes_the_comparison_one(a, b, assumed):
    found = compare_plans(plan_of("one", {"text": 1}, assumed=a), plan_of("two", {"text": 1}, assumed=b))
    assert found["assumed"] is assumed


def test_source_of_one_plan_alone_is_named_and_has_no_share_in_the_other():
    found = compare_plans(plan_of("one", {"text": 600, "code": 400}), plan_of("two", {"text": 600, "web": 200, "unread": 0}))
    assert (found["only_in_a"], found["only_in_b"]) == (["code"], ["web"])
    rows = {row["source"]: row for row in found["rows"] if row["phase"] == "whole run"}
    assert list(rows) == ["text", "code", "web"]
    assert rows["code"] == {
        "phase": "whole run", "source": "code", "tokens_a": 400, "tokens_b": 0, "difference": -400, "share_a": 0.4, "share_b": 0.0,
    }  # fmt: skip
    assert rows["web"]["difference"] == 200 and rows["web"]["share_b"] == 0.25
    nothing = compare_plans(plan_of("one", {"text": 600}), plan_of("two", {}))["rows"]
    assert [(row["share_a"], row["share_b"]) for row in nothing] == [(1.0, 0.0), (1.0, 0.0)]


def test_one_name_for_other_data_is_known_by_checksums_and_else_by_sizes():
    def of(tokens: int, sha: str | None) -> dict:
        plan = plan_of("one", {"text": 10})
        plan["sources"]["text"] |= {"bin_sha256": sha, "train_tokens": tokens}
        return plan

    same, other = [], ["text"]
    for a, b, expected in (
        (of(1, "x"), of(2, "x"), same), (of(1, "x"), of(1, "y"), other), (of(1, None), of(1, "y"), same), (of(1, "x"), of(2, None), other),
        (of(1, None), of(2, None), other),
    ):  # fmt: skip
        assert compare_plans(a, b)["other_data"] == expected


def test_settings_that_differ_are_listed_with_both_values():
    a = plan_of("one", {"text": 10}, initial_weights="run")
    b = plan_of("two", {"text": 10}, steps=12, seed=2, parameters={"total": 90}, branch={"run": "trunk", "step": 5})
    b["model"] = {"num_layers": 2, "sequence_length": 128, "newer": 1}
    b["phases"] = [{**b["phases"][0], "steps": 12, "data_seed": 3, "sequence_length": 32, "batches": [[4, 8], [8, 16]]}]
    b["phases"][0]["learning_rate"] = {**RATE, "peak": 0.001}
    assert {row["setting"]: (row["a"], row["b"]) for row in compare_plans(a, b)["settings"]} == {
        "steps": (10, 12),
        "seed": (1, 2),
        "model.num_layers": (4, 2),
        "branch": (None, "trunk@5"),
        "parameters": (100, 90),
        "phases.all.steps": (10, 12),
        "phases.all.data_seed": (None, 3),
        "phases.all.sequence_length": (64, 32),
        "phases.all.batches": (None, "4 x 8, 8 x 16"),
        "phases.all.learning_rate.peak": (0.003, 0.001),
    }  # what one plan was written without says nothing


def test_epochs_beyond_the_limit_are_refused_or_warned_of_in_full():
    recipe = build_recipe(copy.deepcopy(RECIPE), directory="/nowhere")
    with pytest.raises(RecipeError) as caught:
        make_plan(recipe, {"prose": manifest("prose", 1000), "snippets": manifest("snippets", 64)})
    assert caught.value.faults == [
        "corpora.prose: 6336 tokens are asked for (balanced 3072, cooldown 3264), it holds 1000: 6.60 epochs, at most 4 are allowed;"
        " lower its share, add documents, raise corpora.prose.max_epochs or take it on with beyond_max_epochs: warn",
        "corpora.snippets: 64 training tokens do not fill one sequence of 64; add documents or shorten model.sequence_length",
    ]


def test_what_a_parent_read_counts_as_read(tmp_path):
    recipe = build_recipe(copy.deepcopy(RECIPE), directory="/nowhere")
    plan = make_plan(recipe, {name: manifest(name, 20_000) for name in ("prose", "snippets")})
    sources = {"prose": {**plan.sources["prose"], "epochs": 5.0, "tokens_before": 640}}
    with pytest.raises(
        RecipeError, match=r"corpora.prose: 6976 tokens are asked for \(before the branch 640, balanced 3072, cooldown 3264\)"
    ):
        guard_epochs(recipe, sources, plan.phases)


@pytest.mark.parametrize("policy", ["refuse", "warn"])
def test_more_than_a_round_of_buckets_is_a_fault_or_a_warning(policy):
    changes = [f"corpora.prose.beyond_max_epochs={policy}"]
    recipe = build_recipe(apply_overrides(copy.deepcopy(RECIPE), changes), directory="/nowhere")
    plan = make_plan(build_recipe(copy.deepcopy(RECIPE), directory="/nowhere"), {n: manifest(n, 20_000) for n in ("prose", "snippets")})
    buckets = {"names": ["low", "high"], "epochs": [1.0, 2.0], "round": [10, 20], "drawn": [20, 40], "realised": [2.0, 4.0]}
    sources = {"prose": {**plan.sources["prose"], "buckets": buckets}}
    if policy == "warn":
        (said,) = guard_epochs(recipe, sources, plan.phases)
        assert said.startswith("prose (high)") or "prose (high)" in said
    else:
        with pytest.raises(
            RecipeError, match=r"sources.prose: 3840 tokens are asked for .*, a round of its buckets has 1920: documents with high"
        ):
            guard_epochs(recipe, sources, plan.phases)


def test_branch_into_longer_sequences_is_found_from_the_folder(tmp_path):
    import json

    corpora = {name: manifest(name, 20_000) for name in ("prose", "snippets")}
    plan = make_plan(build_recipe(copy.deepcopy(RECIPE), directory="/nowhere"), corpora)
    (tmp_path / "plan.json").write_text(json.dumps(plan.as_json()))
    plain = {**copy.deepcopy(RECIPE), "branch": {"run": str(tmp_path), "step": 12}}
    longer = build_recipe(apply_overrides(plain, ["model.sequence_length=128"]), directory="/nowhere")
    point = find_branch_point(longer, corpora, dict.fromkeys(corpora, (20000 - 1) // 128))
    assert (point.sequences, point.parent_length, point.consumed) == (48, 64, {"prose": 24, "snippets": 24})
