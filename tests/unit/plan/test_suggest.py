"""What `codemix plan --suggest` names fits, divides, and is the layout one expects where that is known."""

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.suggest import suggest_layouts
from codemix_megatron.recipe.layout_checks import layout_faults
from codemix_megatron.recipe.schema import Batch, Model, Parallel, Recipe, Tokenizer
from codemix_megatron.recipe.shapes import SHAPES


def recipe_of(size: str, global_sequences: int = 64, **model) -> Recipe:
    """Return a recipe of one size on CUDA."""
    made = Model.from_plain({**SHAPES[size], "precision": "bf16", **model})
    batch, layout = Batch(global_sequences=global_sequences, micro_sequences=1), Parallel(device="cuda")
    return Recipe(name="r", model=made, parallel=layout, batch=batch, tokenizer=Tokenizer(path=""), corpora={}, phases=())


def test_a_model_that_fits_one_device_is_only_copied():
    best = suggest_layouts(recipe_of("470m"), 50257, 8, "h100", 0.4)[0]
    assert best.parallel.model_ranks == 1 and best.parallel.recompute == "none" and best.exposed_share == 0


def test_all_that_is_suggested_fits_and_divides():
    for device, gigabytes in (("h100", 80), ("a100-40", 40), ("rtx4090", 24)):
        for one in suggest_layouts(recipe_of("2.8b"), 50257, 16, device, 0.4):
            assert one.memory.total <= 0.9 * gigabytes * 1e9
            changed = recipe_of("2.8b")
            assert not layout_faults(Recipe(**{**vars(changed), "parallel": one.parallel}))
            assert 16 % one.parallel.model_ranks == 0 and 64 % (one.micro_sequences * 16 // one.parallel.model_ranks) == 0


def test_the_parallel_block_halves_what_tensor_ranks_wait():
    seconds = {}
    for block in ("parallel", "sequential"):
        found = suggest_layouts(recipe_of("2.8b", block=block), 50257, 4, "h100", 0.4)
        seconds[block] = next(
            one for one in found if one.parallel.tensor == 4 and one.micro_sequences == 1 and one.parallel.recompute == "none"
        )
    waits = {block: one.exposed_share * one.seconds_per_step for block, one in seconds.items()}
    assert waits["sequential"] == pytest.approx(2 * waits["parallel"])
    # by hand: 4 all-reduces a layer, 2 (t - 1) / t of 2 bytes each, 28 layers of 2,560, all tokens of the one copy, over 450 GB/s
    assert waits["sequential"] == pytest.approx(4 * 28 * 64 * 8192 * 2560 * 2 * 2 * 3 / 4 / 450e9)


def test_what_fits_nowhere_is_told_with_what_comes_closest():
    with pytest.raises(
        RecipeError, match=r"no layout fits: the smallest needs [\d.]+ GiB of 13\.4 on v5e \(parallel.tensor=1 .*recompute=full"
    ):
        suggest_layouts(recipe_of("2.8b"), 50257, 1, "v5e", 0.4)
    with pytest.raises(RecipeError, match="no layout of 7 ranks divides"):
        suggest_layouts(recipe_of("470m"), 50257, 7, "h100", 0.4)


def test_command_prints_a_table_and_overrides_and_asks_for_a_device(tmp_path, capsys, monkeypatch):
    from tiny_run import REPOSITORY

    monkeypatch.chdir(tmp_path)
    recipe = str(REPOSITORY / "examples" / "paper" / "2.8b" / "text-only.yaml")
    sizes = ["--assume-tokens", str(REPOSITORY / "examples" / "paper" / "sizes.yaml")]
    words = ["plan", recipe, *sizes, "--assume-vocab", "256000", "--suggest", "parallel.data=null"]
    assert main([*words, "--device", "h100", "--nproc", "64"]) == 0
    assert "parallel.tensor=" in capsys.readouterr().out
    assert main(words) == 2 and "needs --device" in capsys.readouterr().err
