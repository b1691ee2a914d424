"""A branch says what is its own, and takes the rest from its parent."""

import copy

import pytest
import yaml
from tiny_run import RECIPE

from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.reading import build_recipe, write_recipe

COOLDOWN = {
    "name": "cooldown",
    "branch": {"run": "runs/trunk", "step": 12},
    "phases": [
        {"name": "end", "tokens": 4096, "mixture": {"all": {"share": 1.0, "mixture": {"prose": 1.0}}}, "learning_rate": {"peak": 1e-3}}
    ],
}


@pytest.fixture
def parent(tmp_path):
    """A run folder's recipe whose every block differs from the defaults."""
    plain = copy.deepcopy(RECIPE) | {
        "sequences": {"packing": "best_fit"}, "optimizer": {"weight_decay": 0.3}, "parallel": {"distributed_optimizer": False, "tensor": 2},
    }  # fmt: skip
    recipe = build_recipe(plain, directory=tmp_path)
    (tmp_path / "runs" / "trunk").mkdir(parents=True)
    (tmp_path / "runs" / "trunk" / "recipe.yaml").write_text(write_recipe(recipe))
    return recipe


def test_a_branch_of_three_keys_has_its_parents_model_batch_seed_and_corpora(parent, tmp_path):
    child = build_recipe(copy.deepcopy(COOLDOWN), directory=tmp_path)
    for key in ("seed", "model", "batch", "optimizer", "tokenizer", "sequences"):
        assert getattr(child, key) == getattr(parent, key), key
    assert not child.parallel.distributed_optimizer and child.parallel.tensor == 1
    assert child.evaluation.held_out_share == 0.1 and child.evaluation.items == 200
    assert child.corpora == {"prose": parent.corpora["prose"]}, "those its mixtures name"
    assert build_recipe(yaml.safe_load(write_recipe(child)), directory=tmp_path) == child


def test_a_branchs_own_keys_win(parent, tmp_path):
    own = {"optimizer": {"weight_decay": 0.0}, "batch": {"micro_sequences": 4}, "corpora": {"prose": {"prefix": "other/prose"}}}
    child = build_recipe(copy.deepcopy(COOLDOWN) | own, directory=tmp_path)
    assert child.optimizer.weight_decay == 0.0 and child.batch.micro_sequences == 4 and child.batch.global_sequences == 8
    assert child.corpora["prose"].prefix == str(tmp_path / "other" / "prose")


def test_without_its_parent_a_branch_says_what_it_lacks(tmp_path):
    with pytest.raises(RecipeError) as caught:
        build_recipe(copy.deepcopy(COOLDOWN), directory=tmp_path)
    assert any(fault.startswith("model: missing") for fault in caught.value.faults)
    assert any("branch.run" in fault and "no recipe.yaml" in fault for fault in caught.value.faults)
