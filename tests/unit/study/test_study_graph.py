"""What variants share is found from their recipes, and is trained once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from presets_of_studies import PAPER_NAMES, plan_of_study
from small_study import graph_of, planned, write_study
from tiny_run import REPOSITORY

from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.plan import find_corpora, make_plan
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.study.figure import draw_study
from codemix_megatron.study.segments import build_graph, corpora_of, key_of, segment_recipe
from codemix_megatron.study.study_file import read_study

SIZES = {"prose": 10**5, "snippets": 10**5}


def test_variants_that_are_the_same_up_to_a_phase_share_it(tmp_path):
    graph = graph_of(tmp_path)
    assert graph.paths == {
        "plain": ("plain.balanced", "plain"),
        "longer": ("plain.balanced", "longer.text", "longer"),
        "no-code": ("plain.balanced", "longer.text", "no-code"),
    }
    assert graph.segments["plain.balanced"].variants == ("plain", "longer", "no-code")
    assert graph.below("plain.balanced") == ["plain", "longer.text", "longer", "no-code"]
    assert graph.below("longer.text") == ["longer", "no-code"] and graph.below("plain") == []
    plan = planned(graph)
    assert plan.total(lambda p: p.tokens) == 512 * (12 + 8 + 4 + 8 + 8)
    assert plan.alone(lambda p: p.tokens) == 512 * (20 + 24 + 24)


def test_another_seed_model_or_mixture_shares_nothing_from_there_on(tmp_path):
    def change(study):
        study["variants"] = {"plain": None, "again": None}
        study["axes"] = {"seed": [7, 8], "size": {"s": {}, "l": {"model.num_layers": 8}}}
        study["exclude"] = [{"variant": "again", "seed": "seed-8"}]

    graph = graph_of(tmp_path, change)
    assert list(graph.paths) == ["plain-seed-7-s", "plain-seed-7-l", "plain-seed-8-s", "plain-seed-8-l", "again-seed-7-s", "again-seed-7-l"]
    assert graph.paths["again-seed-7-s"] == graph.paths["plain-seed-7-s"]
    assert len(graph.segments) == 4 * 2 and len(graph.children(None)) == 4


def test_saving_and_watching_differently_is_no_other_run(tmp_path):
    def change(study):
        study["axes"] = {
            "saves": {"few": {}, "many": {"checkpoint.every_steps": 2, "observers.tensorboard": True, "parallel.timeout_seconds": 9}}
        }

    assert len(graph_of(tmp_path, change).segments) == 5


def test_a_corpus_that_is_not_read_before_a_phase_keeps_nothing_apart(tmp_path):
    def change(study):
        more = {"kind": "text", "documents": ["more.jsonl"]}
        study["variants"] = {
            "plain": None,
            "more": {"overrides": {"corpora.more": more, "phases.cooldown.mixture": {"prose": 0.5, "more": 0.5}}},
        }

    paths = graph_of(tmp_path, change).paths
    assert paths["plain"][0] == paths["more"][0] and paths["plain"][1] != paths["more"][1]


def test_corpora_of_a_mixture_are_those_of_its_groups_and_of_both_its_ends():
    nested = {"prose": 0.5, "code": {"share": 0.5, "mixture": {"web": 0.5, "inner": {"share": 0.5, "mixture": {"markup": 1.0}}}}}
    assert corpora_of(nested) == ["prose", "web", "markup"]
    assert corpora_of({"from": {"prose": 1.0}, "to": nested, "stages": 4}) == ["prose", "web", "markup"]
    assert corpora_of({"proportional": 0.5, "corpora": ["web", "prose"]}) == ["web", "prose"]


def test_variant_after_another_goes_on_from_it(tmp_path):
    def change(study):
        study["variants"] = {"trunk": {"phases": ["balanced"]}, "cooled": {"after": "trunk", "phases": ["cooldown"]}}

    graph = graph_of(tmp_path, change)
    assert graph.paths == {"trunk": ("trunk",), "cooled": ("trunk", "cooled")} and graph.segments["trunk"].ends == ("trunk",)


def test_segments_of_a_variant_plan_what_its_whole_recipe_plans(tmp_path):
    graph, sizes = graph_of(tmp_path), {"prose": 3000, "snippets": 10**5}
    plans = planned(graph, sizes).plans
    for variant, path in graph.paths.items():
        recipe = graph.segments[path[-1]].recipe
        whole = make_plan(recipe, find_corpora(recipe, sizes))
        parts = [plans[name] for name in path]
        assert [phase for part in parts for phase in part.phases] == whole.phases, variant
        ends = {name: source["epochs"] for name, source in parts[-1].sources.items()}
        assert ends == {name: source["epochs"] for name, source in whole.sources.items()} and parts[-1].steps == whole.steps


def test_segment_branches_off_where_its_parent_ends(tmp_path):
    graph = graph_of(tmp_path)
    root, child = (segment_recipe(graph.segments[name], Path("/runs")) for name in ("plain.balanced", "longer.text"))
    assert root.branch is None and [phase.name for phase in root.phases] == ["balanced"] and root.name == "plain.balanced"
    assert (child.branch.run, child.branch.step) == ("/runs/plain.balanced", None) and [phase.name for phase in child.phases] == ["text"]


def test_known_segments_keep_their_names_when_variants_come_before_them(tmp_path):
    before = graph_of(tmp_path)
    known = {segment.key: name for name, segment in before.segments.items()}

    def change(study):
        study["variants"] = {"first": {"phases": ["balanced"]}, **study["variants"]}

    after = build_graph(read_study(write_study(tmp_path, change)), known)
    assert after.paths == {"first": ("plain.balanced",), **before.paths}


def test_paper_grid_has_the_26_runs_that_can_be_named_and_shares_what_they_have_in_common():
    plan = plan_of_study("paper")
    assert set(plan.graph.paths) == PAPER_NAMES and len(PAPER_NAMES) == 26
    assert len(plan.graph.segments) == 43
    billions = lambda value: round(value / 1e9)  # noqa: E731
    assert billions(plan.alone(lambda p: p.tokens)) == (7 + 2) * 440 + (6 + 4) * 200 + 7 * 440
    shared = {name: len(segment.variants) for name, segment in plan.graph.segments.items() if len(segment.variants) > 1}
    assert shared == {
        "sweep-050-470m": 4,
        "balanced-to-text-470m.continue": 3,
        "balanced-to-text-470m": 2,
        "sweep-100-470m": 3,
        "quality-code-synth-470m": 2,
    }
    saved = plan.alone(lambda p: p.tokens) - plan.total(lambda p: p.tokens)
    assert billions(saved) == 3 * 200 + 2 * 200 + 40 + 2 * 200 + 200


def test_mini_grid_is_planned_over_corpora_of_python():
    plan = plan_of_study("mini", text=10**6, code=3 * 10**6)
    assert len(plan.graph.paths) == 9 and plan.total(lambda p: p.tokens) < 0.75 * plan.alone(lambda p: p.tokens)
    assert all(p.layout["tensor"] == 2 for p in plan.plans.values())


def test_names_are_drawn_as_they_are_written(tmp_path):
    drawn = draw_study(r"a$\foo$b", planned(graph_of(tmp_path)), tmp_path / "study.svg")
    assert r"a$\foo$b" in drawn.read_text(encoding="utf-8")


def test_mini_study_of_seeds_repeats_four_shares_three_times_on_one_rank_each():
    plan = plan_of_study("mini-seeds", text=10**6, code=3 * 10**6)
    assert len(plan.graph.segments) == len(plan.graph.paths) == 4 * 3 and {p.layout["ranks"] for p in plan.plans.values()} == {1}
    study = read_study(Path(__file__).parents[3] / "examples" / "studies" / "mini-seeds.yaml")
    assert {variant.variant for variant in study.variants} == {"text-only", "sweep-010", "sweep-025", "sweep-050"}
    assert not any(variant.points for variant in study.variants), "seeds are repetitions and no conditions"


def test_study_of_sizes_reads_nothing_twice_and_has_models_far_apart():
    plan = plan_of_study("sizes", text=886_000, code=3_400_000)
    plans = plan.plans.values()
    assert len(plans) == 5 * 2 * 3 and {p.layout["ranks"] for p in plans} == {1} and len({p.tokens for p in plans}) == 1
    assert max(source["epochs"] for p in plans for source in p.sources.values()) < 1
    small, large = sorted({p.parameters["total"] for p in plans})
    assert large > 4 * small


def test_data_seeds_of_a_cooldown_share_its_trunk_and_are_no_conditions(tmp_path):
    path = write_study(tmp_path, lambda study: study.update(axes={"phases.cooldown.data_seed": [1, 2, 3]}))
    graph = build_graph(read_study(path))
    assert len(graph.paths) == 9 and len(graph.segments) == 2 + 3 * 3, "two trunks, three cooldowns of each variant"
    assert graph.paths["plain-data_seed-1"][0] == graph.paths["no-code-data_seed-3"][0]
    assert not any(variant.points for variant in read_study(path).variants)
    plans = planned(graph).plans
    orders = [plans[f"plain-data_seed-{seed}"].mixture() for seed in (1, 2, 3)]
    at = np.arange(orders[0].first, len(orders[0]))
    read = [order.locate(at) for order in orders]
    assert all((each.source == read[0].source).all() for each in read)
    assert len({tuple(each.sequence) for each in read}) == 3, "the same mixture of other sequences"
    whole = make_plan(graph.segments["plain-data_seed-2"].recipe, find_corpora(graph.segments["plain-data_seed-2"].recipe, SIZES)).mixture()
    assert (whole.locate(at).sequence == read[1].sequence).all(), "as one run of both phases reads"


def test_branch_with_another_seed_is_refused_with_the_way_that_there_is(tmp_path):
    graph = graph_of(tmp_path)
    parent = planned(graph).plans["plain.balanced"].as_json()
    recipe = replace(segment_recipe(graph.segments["plain"], tmp_path), seed=99)
    RunFolder(tmp_path / "plain.balanced").path.mkdir()
    (tmp_path / "plain.balanced" / "plan.json").write_text(json.dumps(parent))
    with pytest.raises(RecipeError, match=r"seed is 99 here and 7 there; a branch keeps it; phases\[0\].data_seed gives"):
        make_plan(recipe, find_corpora(recipe, SIZES))


DECIDING = {"tensor": 4, "pipeline": 4, "virtual_pipeline": 2, "context": 2, "data": 3, "sequence_parallel": True, "distributed_optimizer": False,
            "overlap": True, "recompute": "full"}  # fmt: skip
WATCHING = {"timeout_seconds": 7, "heartbeat_seconds": 8, "preflight": "off", "threads_per_rank": 3}


@pytest.mark.parametrize(("name", "value"), [*DECIDING.items(), *WATCHING.items()])
def test_what_decides_how_sums_are_rounded_makes_another_run_and_what_only_watches_does_not(name, value):
    recipe = read_recipe(REPOSITORY / "examples" / "demo" / "recipe.yaml")
    changed = replace(recipe, parallel=replace(recipe.parallel, **{name: value}))
    assert getattr(recipe.parallel, name) != value
    assert (key_of(changed, 0) != key_of(recipe, 0)) == (name in DECIDING)


def test_study_of_synthetic_code_takes_it_from_other_code_alone():
    plan = plan_of_study("synthetic", text=10**6, code=10**6, synthetic=25_000)
    assert len(plan.graph.segments) == 4 * 3
    shares = {name.rpartition("-seed-")[0]: p.phases[0].sources for name, p in plan.plans.items()}
    assert {name: round(s["synthetic"].share, 2) if "synthetic" in s else 0 for name, s in shares.items()} == {
        "none": 0, "synthetic-05": 0.05, "synthetic-10": 0.1, "synthetic-20": 0.2,
    }  # fmt: skip
    assert all(s["text"].share == 0.75 for s in shares.values())


def test_suite_of_solutions_scores_whole_solutions():
    from codemix_megatron.evaluate.suites import read_suite

    suite = read_suite(Path(__file__).parents[3] / "examples" / "studies" / "solutions-suite.yaml")
    assert {task.name for task in suite.tasks} == {"humaneval_solutions", "mbpp_solutions"}
