"""A branch, and a branch of that, read what one run of all their phases reads; what their parents read goes over with them."""

import copy
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from test_plan import manifest
from tiny_run import RECIPE

from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.plan import plan as planning
from codemix_megatron.plan.branch import BranchPoint, branch_from, find_branch_point, recorded_branch_point
from codemix_megatron.plan.difference import read_plan
from codemix_megatron.plan.plan import documents_begin, find_corpora, make_plan
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.run_folder import RunFolder

CORPORA = {name: manifest(name, 20_000) for name in ("prose", "snippets")}
PER_EPOCH = dict.fromkeys(CORPORA, (20_000 - 1) // 64)
RATE = {"schedule": "constant", "peak": 0.001}
MOVING = {"from": {"prose": 1.0}, "to": {"prose": 0.2, "snippets": 0.8}}
PHASES = [
    {"name": "one", "tokens": 8 * 512, "mixture": {"prose": 0.5, "snippets": 0.5}, "learning_rate": RATE, "data_seed": 3},
    {"name": "two", "tokens": 10 * 512, "mixture": MOVING, "learning_rate": RATE},
    {"name": "three", "tokens": 6 * 512, "mixture": {"snippets": 1.0}, "learning_rate": RATE, "data_seed": 4},
]


def recipe_of(*numbers: int, **more) -> Recipe:
    """Return the tiny recipe with some of the phases."""
    return build_recipe({**copy.deepcopy(RECIPE), "phases": [copy.deepcopy(PHASES[n]) for n in numbers], **more}, directory="/nowhere")


def located(plan, first: int = 0) -> list[tuple]:
    """Return (source, epoch, sequence) from a position on."""
    mixture = plan.mixture()
    found = mixture.locate(np.arange(first, len(mixture)))
    return list(zip(found.source.tolist(), found.epoch.tolist(), found.sequence.tolist(), strict=True))


def test_a_branch_of_a_branch_reads_what_one_run_of_all_phases_reads():
    whole = make_plan(recipe_of(0, 1, 2), CORPORA)
    first = make_plan(recipe_of(0), CORPORA)
    second = make_plan(recipe_of(1), CORPORA, branch=branch_from(first.as_json(), "first", None))
    third = make_plan(recipe_of(2), CORPORA, branch=branch_from(second.as_json(), "second", None))
    assert [plan.first_step for plan in (first, second, third)] == [0, 8, 18] and third.steps == whole.steps == 24
    assert located(second, 64) == located(whole, 64)[:80] and located(third, 144) == located(whole, 144)
    assert third.branch.consumed == {"prose": 32 + 48, "snippets": 32 + 32} and third.sources["prose"]["sequences"] == 0
    assert third.branch.reseeded == [{"seed": 3, "drawn": {"prose": 0, "snippets": 0}}]
    assert third.sources["snippets"]["tokens_before"] == 64 * 64 and (third.seed, third.name) == (7, "tiny")


def test_a_corpus_that_the_parent_left_out_is_still_the_one_its_parent_read(tmp_path):
    first = make_plan(recipe_of(0), CORPORA)
    alone = recipe_of(2, corpora={"snippets": RECIPE["corpora"]["snippets"]})
    second = make_plan(alone, {"snippets": CORPORA["snippets"]}, branch=branch_from(first.as_json(), "first", None))
    (tmp_path / "plan.json").write_text(json.dumps(second.as_json()))
    recipe = recipe_of(0, branch={"run": str(tmp_path)})
    point = find_branch_point(recipe, CORPORA, PER_EPOCH)
    assert point.consumed == {"prose": 32, "snippets": 32 + 48} and point.parent_length is None
    assert point.files == {name: {"bin_sha256": name, "sequences_per_epoch": PER_EPOCH[name]} for name in CORPORA}
    with pytest.raises(RecipeError, match=r"corpora\.prose is another file"):
        find_branch_point(recipe, {**CORPORA, "prose": replace(CORPORA["prose"], bin_sha256="another")}, PER_EPOCH)


def test_what_a_run_recorded_of_its_branch_needs_no_parent(tmp_path):
    run = RunFolder(tmp_path)
    assert recorded_branch_point(run) is None
    point = branch_from(make_plan(recipe_of(0), CORPORA).as_json(), "gone", 5)
    run.recipe.write_text("name: x\n")
    run.environment.write_text("{}")
    run.plan.write_text(json.dumps({"branch": asdict(point)}))
    assert recorded_branch_point(run) == point and isinstance(point, BranchPoint)
    run.plan.write_text(json.dumps({"branch": None}))
    assert recorded_branch_point(run) is None
    run.plan.write_text("[")
    with pytest.raises(CodemixError, match=r"plan\.json: cannot be read"):
        recorded_branch_point(run)


def test_learned_tokens_of_a_corpus_are_part_of_what_it_is():
    masked = {**CORPORA, "prose": replace(CORPORA["prose"], loss_mask_sha256="bits")}
    plan = make_plan(recipe_of(0), masked)
    assert plan.sources["prose"]["loss_mask_sha256"] == "bits" and "loss_mask_sha256" not in plan.sources["snippets"]
    assert branch_from(plan.as_json(), "x", None).files["prose"]["loss_mask_sha256"] == "bits"


def test_whether_documents_begin_with_a_token_is_said_by_corpora_and_where_there_are_none_by_the_recipe():
    begun = replace(CORPORA["prose"], tokenizer=replace(CORPORA["prose"].tokenizer, beginning_of_document_id=1))
    asking = recipe_of(0, tokenizer={**RECIPE["tokenizer"], "beginning_of_document": "<s>"})
    assumed = find_corpora(asking, {"prose": 10**5, "snippets": 10**5}, 500)
    assert not documents_begin(recipe_of(0), CORPORA) and documents_begin(recipe_of(0), {**CORPORA, "prose": begun})
    assert documents_begin(asking, assumed) and not documents_begin(recipe_of(0), assumed) and not documents_begin(asking, CORPORA)


def test_a_run_is_as_long_as_positions_are_counted_exactly(monkeypatch):
    monkeypatch.setattr(planning, "MOST_SEQUENCES", 144)
    assert make_plan(recipe_of(0, 1), CORPORA).steps == 18
    with pytest.raises(RecipeError, match=r"phases: 192 sequences of 64 tokens in all; .* exact up to 144 of them"):
        make_plan(recipe_of(0, 1, 2), CORPORA)


def test_no_plan_is_where_it_was_said_to_be(tmp_path):
    with pytest.raises(RecipeError) as caught:
        read_plan(tmp_path / "missing.json")
    assert str(caught.value) == f"{tmp_path / 'missing.json'}: nothing is there; give a recipe, a plan.json or a run folder"
