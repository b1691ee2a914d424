"""A branch that could not draw on where its parent stopped is refused, with what differs; one that can goes on there exactly."""

import copy
import json
from dataclasses import asdict, replace

import pytest
from test_plan import manifest
from tiny_run import RECIPE

from codemix_megatron.errors import RecipeError
from codemix_megatron.mixture.mixture import DATA_ORDER
from codemix_megatron.plan.branch import branch_from, find_branch_point, in_longer_sequences, other_data_order, other_reading
from codemix_megatron.plan.plan import make_plan
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.recipe.yaml_text import apply_overrides

CORPORA = {name: manifest(name, 20_000) for name in ("prose", "snippets")}
PER_EPOCH = dict.fromkeys(CORPORA, (20000 - 1) // 64)


def recipe_of(*overrides: str, **more: dict) -> Recipe:
    """Return the tiny recipe with changes."""
    return build_recipe(apply_overrides({**copy.deepcopy(RECIPE), **more}, overrides), directory="/nowhere")


@pytest.fixture
def parent(tmp_path):
    """The folder of a run of 20 steps of which only the plan is left."""
    (tmp_path / "plan.json").write_text(json.dumps(make_plan(recipe_of(), CORPORA).as_json()))
    return tmp_path


def refused(parent, *overrides: str, corpora=None, step: int | None = None) -> list[str]:
    """Return why a branch of the run is refused, without the folder's name."""
    asked = {"run": str(parent), **({"step": step} if step is not None else {})}
    with pytest.raises(RecipeError) as caught:
        find_branch_point(recipe_of(*overrides, branch=asked), corpora or CORPORA, PER_EPOCH)
    return [fault.replace(str(parent), "RUN") for fault in caught.value.faults]


def test_branch_needs_a_run_that_was_planned(tmp_path):
    said = ["branch.run: RUN is no run folder (no readable plan.json); train the parent first"]
    assert refused(tmp_path) == said
    (tmp_path / "plan.json").write_text("{")
    assert refused(tmp_path) == said


def test_step_is_one_that_the_parent_makes(parent):
    assert refused(parent, step=21) == ["branch.step: RUN has no step 21; it goes from 1 to 20"]
    first, last = (find_branch_point(recipe_of(branch={"run": str(parent), "step": step}), CORPORA, PER_EPOCH) for step in (1, 20))
    assert (first.sequences, last.sequences) == (8, 160)
    assert find_branch_point(recipe_of(branch={"run": str(parent)}), CORPORA, PER_EPOCH) == last
    assert find_branch_point(recipe_of(), CORPORA, PER_EPOCH) is None


def test_branch_of_a_branch_begins_after_the_step_its_parent_began_at(parent):
    point = asdict(branch_from(json.loads((parent / "plan.json").read_text()), "grandparent", 12))
    plan = json.loads((parent / "plan.json").read_text())
    (parent / "plan.json").write_text(json.dumps({**plan, "branch": point}))
    assert refused(parent, step=12) == ["branch.step: RUN has no step 12; it goes from 13 to 20"]


def test_seed_length_and_data_order_are_kept(parent):
    assert refused(parent, "seed=8", "model.sequence_length=32") == [
        "branch.run: seed is 8 here and 7 there; a branch keeps it; phases[0].data_seed gives its own phases another order of the data",
        "branch.run: model.sequence_length is 32 here and 64 there; a branch keeps it or has longer ones. For shorter sequences keep 64"
        " and set sequence_length: 32 in phases",
    ]
    plan = json.loads((parent / "plan.json").read_text())
    (parent / "plan.json").write_text(json.dumps({**plan, "data_order": DATA_ORDER + 1}))
    (said,) = refused(parent)
    assert said == (
        f"branch.run: its data order is version {DATA_ORDER + 1}, this package has version {DATA_ORDER}: it would read some data again and"
        " skip other"
    )
    del plan["data_order"]
    assert other_data_order(plan) == (
        None if DATA_ORDER == 1 else said.replace(f"version {DATA_ORDER + 1},", "version 1,")[len("branch.run: ") :]
    )


def test_corpus_is_the_file_that_the_parent_read(parent):
    said = [
        "branch.run: corpora.prose is another file, or cut into other sequences, than the parent's (or its parents'); rename it here or take that"
    ]
    for change in ({"bin_sha256": "other"}, {"loss_mask_sha256": "other"}):
        assert refused(parent, corpora={**CORPORA, "prose": replace(CORPORA["prose"], **change)}) == said
    plan, recipe = json.loads((parent / "plan.json").read_text()), recipe_of()
    unknown = {**CORPORA, "prose": replace(CORPORA["prose"], bin_sha256=None)}  # a size that was assumed
    assert other_reading(recipe, plan, unknown, PER_EPOCH, {}) == []
    assert other_reading(recipe, plan, {"new": replace(CORPORA["prose"], bin_sha256="other")}, {"new": 1}, {}) == []
    assert len(other_reading(recipe, plan, CORPORA, {**PER_EPOCH, "prose": PER_EPOCH["prose"] + 1}, {})) == 1
    assert other_reading(recipe_of("model.sequence_length=128"), plan, CORPORA, {**PER_EPOCH, "prose": 7}, {}) == []


def test_what_is_read_of_each_source_goes_over_to_the_branch(parent):
    plan = json.loads((parent / "plan.json").read_text())
    point = branch_from(plan, "parent", 12)
    assert point.sequences == 96 and sum(point.consumed.values()) == 96 and point.consumed == {"prose": 48, "snippets": 48}
    assert point.files == {name: {"bin_sha256": CORPORA[name].bin_sha256, "sequences_per_epoch": PER_EPOCH[name]} for name in CORPORA}
    longer = in_longer_sequences(point, 64, 128)
    assert (longer.sequences, longer.consumed, longer.parent_length) == (48, {"prose": 24, "snippets": 24}, 64)
    assert all("sequences_per_epoch" not in known for known in longer.files.values())
    assert in_longer_sequences(replace(point, sequences=97), 64, 128).sequences == 49  # rounded up, so that nothing is read twice


def test_seeds_of_phases_that_have_begun_go_over_too():
    plan = make_plan(recipe_of("phases.1.data_seed=5"), CORPORA).as_json()
    assert branch_from(plan, "parent", 12).reseeded == []
    (entry,) = branch_from(plan, "parent", 13).reseeded
    assert entry == {"seed": 5, "drawn": {"prose": 48, "snippets": 48}}
    longer = in_longer_sequences(branch_from(plan, "parent", 13), 64, 128)
    assert longer.reseeded == [{"seed": 5, "drawn": {"prose": 24, "snippets": 24}}]
