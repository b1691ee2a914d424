"""The planner's memory beside the peak of a whole step, simulated with every storage counted (`make check-cuda`, torch 2.11 for CUDA, November 2026)."""

from dataclasses import replace

import pytest

from codemix_megatron.plan.memory import fullest_stage, memory_by_recompute, memory_by_stage
from codemix_megatron.recipe.schema import Batch, Model, Parallel, Recipe, Tokenizer
from codemix_megatron.recipe.shapes import SHAPES

# layers, size, ranks, rank, micro_sequences, micro batches, ids, layout, bytes at the peak
PEAKS = [
    ("transformer_engine", "470m", 1, 0, 4, 2, 50257, {}, 30562640896),
    ("transformer_engine", "470m", 1, 0, 4, 2, 50257, {"recompute": "full"}, 16135544320),
    ("transformer_engine", "470m", 1, 0, 4, 2, 255029, {}, 75801878528),
    ("transformer_engine", "470m", 8, 3, 4, 2, 50257, {}, 27701351936),
    ("transformer_engine", "470m", 8, 3, 4, 2, 50257, {"distributed_optimizer": False}, 30400372736),
    ("transformer_engine", "470m", 8, 3, 4, 2, 50257, {"tensor": 2, "sequence_parallel": True}, 14847572992),
    ("transformer_engine", "470m", 8, 3, 4, 2, 50257, {"tensor": 4}, 9114667008),
    ("transformer_engine", "470m", 8, 0, 1, 8, 50257, {"pipeline": 4}, 5367975424),
    ("transformer_engine", "470m", 8, 7, 1, 8, 50257, {"pipeline": 4}, 4975366656),
    ("transformer_engine", "470m", 8, 0, 4, 8, 50257, {"tensor": 2, "pipeline": 2, "sequence_parallel": True}, 9794129408),
    ("transformer_engine", "470m", 8, 0, 1, 8, 50257, {"pipeline": 2, "virtual_pipeline": 2}, 6532837376),
    ("transformer_engine", "470m", 8, 7, 1, 8, 50257, {"pipeline": 2, "virtual_pipeline": 2}, 7132440576),
    ("transformer_engine", "470m", 2, 1, 4, 2, 50257, {"context": 2}, 16236892672),
    ("transformer_engine", "470m", 8, 3, 4, 2, 50257, {"context": 2}, 15080169472),
    ("transformer_engine", "2.8b", 1, 0, 1, 2, 50257, {}, 62483102720),
    ("transformer_engine", "2.8b", 1, 0, 1, 2, 50257, {"recompute": "full"}, 46662056448),
    ("transformer_engine", "2.8b", 1, 0, 1, 2, 255029, {}, 84973747200),
    ("transformer_engine", "2.8b", 8, 3, 1, 2, 50257, {}, 37400243712),
    ("transformer_engine", "2.8b", 8, 3, 1, 2, 50257, {"distributed_optimizer": False}, 62066949120),
    ("transformer_engine", "2.8b", 8, 3, 1, 2, 50257, {"tensor": 2, "sequence_parallel": True}, 21385669120),
    ("transformer_engine", "2.8b", 8, 3, 1, 2, 50257, {"tensor": 4}, 14021251072),
    ("transformer_engine", "2.8b", 8, 0, 1, 8, 50257, {"pipeline": 4}, 25607755264),
    ("transformer_engine", "2.8b", 8, 7, 1, 8, 50257, {"pipeline": 4}, 15595594240),
    ("transformer_engine", "2.8b", 8, 0, 1, 8, 50257, {"tensor": 2, "pipeline": 2, "sequence_parallel": True}, 16787234304),
    ("transformer_engine", "2.8b", 8, 0, 1, 8, 50257, {"pipeline": 2, "virtual_pipeline": 2}, 32826915840),
    ("transformer_engine", "2.8b", 8, 7, 1, 8, 50257, {"pipeline": 2, "virtual_pipeline": 2}, 27043457536),
    ("local", "470m", 1, 0, 4, 2, 50257, {}, 35096925696),
    ("local", "470m", 1, 0, 4, 2, 50257, {"recompute": "full"}, 15731807744),
    ("local", "470m", 1, 0, 4, 2, 255029, {}, 79137117696),
    ("local", "470m", 8, 3, 4, 2, 50257, {}, 32397904896),
    ("local", "470m", 8, 3, 4, 2, 50257, {"distributed_optimizer": False}, 35096925696),
    ("local", "470m", 8, 3, 4, 2, 50257, {"tensor": 2, "sequence_parallel": True}, 16999363072),
    ("local", "470m", 8, 3, 4, 2, 50257, {"tensor": 4}, 10108632576),
    ("local", "470m", 8, 0, 1, 8, 50257, {"pipeline": 4}, 6571756032),
    ("local", "470m", 8, 7, 1, 8, 50257, {"pipeline": 4}, 5057067520),
    ("local", "470m", 8, 0, 4, 8, 50257, {"tensor": 2, "pipeline": 2, "sequence_parallel": True}, 12133517824),
    ("local", "470m", 8, 0, 1, 8, 50257, {"pipeline": 2, "virtual_pipeline": 2}, 8057486336),
    ("local", "470m", 8, 7, 1, 8, 50257, {"pipeline": 2, "virtual_pipeline": 2}, 7836775424),
    ("local", "2.8b", 1, 0, 1, 2, 50257, {}, 66950300160),
    ("local", "2.8b", 1, 0, 1, 2, 50257, {"recompute": "full"}, 46025675264),
    ("local", "2.8b", 1, 0, 1, 2, 255029, {}, 86453813760),
    ("local", "2.8b", 8, 3, 1, 2, 50257, {}, 42283594752),
    ("local", "2.8b", 8, 3, 1, 2, 50257, {"distributed_optimizer": False}, 66950300160),
    ("local", "2.8b", 8, 3, 1, 2, 50257, {"tensor": 2, "sequence_parallel": True}, 23537741824),
    ("local", "2.8b", 8, 3, 1, 2, 50257, {"tensor": 4}, 15047185920),
    ("local", "2.8b", 8, 0, 1, 8, 50257, {"pipeline": 4}, 30864294400),
    ("local", "2.8b", 8, 7, 1, 8, 50257, {"pipeline": 4}, 16381154816),
    ("local", "2.8b", 8, 0, 1, 8, 50257, {"tensor": 2, "pipeline": 2, "sequence_parallel": True}, 19354700288),
    ("local", "2.8b", 8, 0, 1, 8, 50257, {"pipeline": 2, "virtual_pipeline": 2}, 39467582464),
    ("local", "2.8b", 8, 7, 1, 8, 50257, {"pipeline": 2, "virtual_pipeline": 2}, 30550907392),
]


def recipe_of(size: str, parallel: dict, ranks: int, micro: int, micro_batches: int) -> tuple[Recipe, int]:
    """Return a recipe of a size and layout, and its copies of the model."""
    layout = Parallel(device="cuda", **parallel)
    data = ranks // layout.model_ranks
    model = Model.from_plain({**SHAPES[size], "precision": "bf16"})
    batch = Batch(global_sequences=micro_batches * micro * data, micro_sequences=micro)
    return Recipe(name="r", model=model, parallel=layout, batch=batch, tokenizer=Tokenizer(path=""), corpora={}, phases=()), data


@pytest.mark.parametrize(("layers", "size", "ranks", "rank", "micro", "micro_batches", "ids", "parallel", "peak"), PEAKS)
def test_plan_is_within_five_percent_of_the_peak(layers, size, ranks, rank, micro, micro_batches, ids, parallel, peak):
    recipe, data = recipe_of(size, parallel, ranks, micro, micro_batches)
    stage = rank // (ranks // recipe.parallel.pipeline)
    assert memory_by_stage(recipe, ids, data, layers)[stage].total == pytest.approx(peak, rel=0.05)


def test_the_fullest_of_many_stages_is_the_first_while_logits_are_few_and_the_last_when_they_are_many():
    recipe, data = recipe_of("2.8b", {"pipeline": 4}, 8, 1, 8)
    assert fullest_stage(recipe, 50257, data).stage == 0
    small, data = recipe_of("470m", {"pipeline": 2}, 8, 1, 2)
    assert fullest_stage(small, 1_000_000, data).stage == 1


def test_recomputing_all_keeps_less_and_what_is_asked_for_is_one_of_the_choices():
    recipe, data = recipe_of("2.8b", {}, 1, 1, 2)
    choices = memory_by_recompute(recipe, 50257, data)
    assert choices["full"] < choices["none"] == choices["selective"] == fullest_stage(recipe, 50257, data).total
    full = replace(recipe, parallel=replace(recipe.parallel, recompute="full"))
    assert fullest_stage(full, 50257, data).total == choices["full"]
