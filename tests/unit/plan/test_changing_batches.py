"""Global batches, sequence lengths and shares that change within a run: exact counts, positions that lose and repeat nothing."""

import copy
import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from test_plan import manifest
from tiny_run import RECIPE

from codemix_megatron.errors import RecipeError
from codemix_megatron.mixture.budget import apportion_moving, plan_batches
from codemix_megatron.plan.branch import branch_from, in_longer_sequences, other_reading, sequences_at
from codemix_megatron.plan.plan import make_plan
from codemix_megatron.plan.rates import step_rate
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.schema import LearningRate
from codemix_megatron.recipe.yaml_text import apply_overrides

GROWING = "batch.global_sequences=[[0, 8], [2K, 16], [20K, 48]]"
MOVING = "phases.0.mixture={from: {prose: 1.0, snippets: 0.0}, to: {prose: 0.1, snippets: 0.9}}"


def planned(*overrides, branch=None, tokens=100_000):
    """Plan the tiny recipe, whose sequences have 64 tokens."""
    recipe = build_recipe(apply_overrides(copy.deepcopy(RECIPE), overrides), directory="/nowhere")
    return make_plan(recipe, {name: manifest(name, tokens) for name in ("prose", "snippets")}, branch=branch)


def walked(stages, tokens: list[int], length: int) -> list[list[int]]:
    """Return the batches of each phase, one step at a time: the rule as one would say it."""
    position, phases = 0, []
    for budget in tokens:
        phases.append([])
        left = budget
        while not phases[-1] or left > 0:
            size = [s for begin, s in stages if begin <= position * length][-1]
            if phases[-1] and left * 2 < size * length:
                break
            phases[-1].append(size)
            position, left = position + size, left - size * length
    return phases


@pytest.mark.parametrize("budgets", [(6144, 4096), (1024, 60_000), (2048, 2049), (31_111, 777), (1030, 512)])
def test_steps_and_positions_are_those_of_a_walk_step_by_step(budgets):
    plan = planned(GROWING, *(f"phases.{i}.tokens={budget}" for i, budget in enumerate(budgets)))
    sizes = walked([(0, 8), (2000, 16), (20_000, 48)], list(budgets), 64)
    assert [p.steps for p in plan.phases] == [len(phase) for phase in sizes]
    ends = np.concatenate([[0], np.cumsum([size for phase in sizes for size in phase])])
    assert [plan.sequences_at(step) for step in range(plan.steps + 1)] == ends.tolist()
    assert [sequences_at(plan.as_json(), step) for step in range(plan.steps + 1)] == ends.tolist()
    assert [plan.batch_at(int(at)).sequences for at in ends[:-1]] == np.diff(ends).tolist()
    assert plan.tokens == ends[-1] * 64 == sum(s["tokens"] for s in plan.sources.values())
    assert len(plan.mixture()) == ends[-1] and plan.mixture().consumed(int(ends[-1])).sum() == ends[-1]


def test_one_size_gives_the_steps_it_always_gave():
    assert plan_batches(((0, 8),), 0, 6300, 64) == [(12, 8)] and plan_batches(((0, 8),), 5, 1, 64) == [(1, 8)]
    assert plan_batches(((0, 8), (10**6, 16)), 10**9, 6300, 64) == [(6, 16)]
    constant, listed = planned(), planned("batch.global_sequences=[[0, 8]]")
    assert {**constant.as_json()} == {**listed.as_json()}


def test_rates_follow_tokens_not_steps():
    plan = planned(GROWING, "phases.0.tokens=31K")
    phase, rate = plan.phases[0], LearningRate(schedule="cosine", peak=1.0, final=0.1, warmup_tokens=2048)
    for step in range(1, phase.steps + 1):
        seen, whole = plan.tokens_at(step), phase.tokens
        expected = seen / 2048 if seen <= 2048 else 0.1 + 0.45 * (1 + math.cos(math.pi * (seen - 2048) / (whole - 2048)))
        assert step_rate(rate, phase, step, 64) == pytest.approx(expected, abs=1e-12), step
    assert step_rate(rate, phase, phase.steps, 64) == pytest.approx(0.1)
    curve = plan.learning_rate_curve
    assert [tokens for tokens, _ in curve][-1] == plan.tokens and all(
        tokens in map(plan.tokens_at, range(plan.steps + 1)) for tokens, _ in curve
    )


@pytest.mark.parametrize("stages", [None, 2, 5])
def test_shares_that_move_are_their_integral_up_to_a_sequence(stages):
    first, last, total = {"a": 0.7, "b": 0.3, "c": 0.0}, {"a": 0.0, "b": 0.25, "d": 0.75}, 10_007
    rows = apportion_moving(total, first, last, stages or 128, is_stepped=bool(stages))
    fractions = (np.arange(total) + 0.5) / total
    if stages:
        fractions = np.floor(fractions * stages) / (stages - 1)
    ends = np.cumsum([sum(row.values()) for row in rows])
    assert ends[-1] == total and all(count >= 0 for row in rows for count in row.values())
    for name in "abcd":
        begin, end = first.get(name, 0), last.get(name, 0)
        integral = np.cumsum(begin + (end - begin) * fractions)[ends - 1]
        assert np.abs(np.cumsum([row[name] for row in rows]) - integral).max() < 2


def test_moving_shares_are_in_the_order_of_positions_and_nothing_comes_twice():
    plan = planned(MOVING, "phases.0.tokens=60K", tokens=60_000)
    mixture, phase = plan.mixture(), plan.phases[0]
    located = mixture.locate(np.arange(len(mixture)))
    assert (located.phase[: phase.sequences] == 0).all() and (located.phase[phase.sequences :] == 1).all()
    prose = np.cumsum(located.source[: phase.sequences] == 0)
    position = np.arange(1, phase.sequences + 1)
    assert np.abs(prose - (position - 0.9 * position**2 / (2 * phase.sequences))).max() < 4
    drawn = list(zip(located.source.tolist(), located.epoch.tolist(), located.sequence.tolist(), strict=True))
    assert len(set(drawn)) == len(drawn)
    assert phase.sources["prose"].share == pytest.approx(0.55) and phase.sources["prose"].sequences == prose[-1]
    assert {name: source.sequences for name, source in phase.sources.items()} == {
        name: sum(row[name] for row in phase.stretches) for name in ("prose", "snippets")
    }
    cut = branch_from(plan.as_json(), "parent", 50)
    assert list(cut.consumed.values()) == np.bincount(located.source[: plan.sequences_at(50)]).tolist()


@pytest.mark.parametrize(("step", "length"), [(12, 128), (13, 256), (1, 1024), (19, 96)])
def test_a_branch_of_longer_sequences_counts_its_parents_reading_in_them(step, length):
    parent = planned()
    cut = branch_from(parent.as_json(), "parent", step)
    longer = in_longer_sequences(cut, 64, length)
    assert longer.sequences == math.ceil(cut.sequences * 64 / length) == sum(longer.consumed.values())
    assert all(abs(longer.consumed[name] - count * 64 / length) < 2 for name, count in cut.consumed.items())
    plan = planned(f"model.sequence_length={length}", "phases.0.tokens=10K", "phases.1.tokens=10K", branch=longer)
    assert plan.sequence_length == length and plan.first_token == longer.sequences * length
    mixture = plan.mixture()
    located = mixture.locate(np.arange(mixture.first, len(mixture)))
    assert mixture.first == longer.sequences and len(located.sequence) == plan.tokens // length
    for name, source in plan.sources.items():
        assert source["epochs"] == pytest.approx((longer.consumed[name] + source["sequences"]) / source["sequences_per_epoch"])
        part = longer.consumed[name] / source["sequences_per_epoch"]
        said = f"corpora.{name}: {100 * part:.0f} % of the pass under way was read in sequences of 64"
        assert any(line.startswith(said) for line in plan.warnings) == (longer.consumed[name] > 0)
    assert not planned().warnings and not planned(branch=cut).warnings


def test_a_phase_of_shorter_sequences_has_as_many_tokens_and_other_operations():
    plan, whole = planned("phases.0.sequence_length=16"), planned()
    assert plan.batch_at(0).parts == 4 and plan.batch_at(12 * 8).parts == 1
    assert (plan.tokens, plan.steps, plan.phases[0].sequences) == (whole.tokens, whole.steps, whole.phases[0].sequences)
    difference = 6 * 4 * 4 * 16 * (64 - 16)  # layers x heads x size of attention
    assert whole.phases[0].flops_per_token - plan.phases[0].flops_per_token == difference
    assert whole.flops["total"] - plan.flops["total"] == difference * plan.phases[0].tokens


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch.global_sequences=[[0, 8], [0, 16]]", "each has to begin after the one before"),
        ("batch.global_sequences=[[1K, 8]]", r"the first size holds from 1000 tokens on; write \[0, 8\]"),
        ("batch.global_sequences=[[0, 8], [1K, 7]]", "7 is not a multiple of micro_sequences 2"),
        ("batch.global_sequences=[[0, 0]]", "found 0, must be at least 1"),
        ("batch.global_sequences=[]", r"needs a whole number, or a list of \[tokens seen, sequences\]"),
        ("batch.global_sequences=[[0, 8], [x, true]]", r"global_sequences\[1\]\[0\]: 'x' is not a positive count"),
        ("batch.global_sequences=eight", "needs a whole number"),
        ("phases.0.sequence_length=24", r"24, which does not divide model.sequence_length 64; \[32, 16, 8, 4\] would"),
        ("phases.0.sequence_length=128", "model.sequence_length is that of the longest sequences"),
        ("phases.0.sequence_length=0", "does not divide"),
        ("phases.0.mixture={from: {prose: 1.0}, to: {prose: 0.5, snippets: 0.4}}", r"mixture.to: shares add up to 0.9"),
        ("phases.0.mixture={from: {prose: 1.0}, to: {snippets: 1.0}, stages: 1}", "must be at least 2; leave it out"),
        ("phases.0.mixture={from: {prose: 1.0}, to: {snippets: 1.0}, over: 1}", "mixture.over: no such key"),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(override, message):
    with pytest.raises(RecipeError, match=message):
        planned(override)


def test_whole_documents_are_not_cut_by_a_shorter_phase():
    with pytest.raises(RecipeError, match="would cut the documents that packing best_fit keeps whole"):
        planned("sequences.packing=best_fit", "phases.0.sequence_length=32")


def test_corpus_that_only_a_grandparent_has_read_has_to_be_the_same_file():
    """A parent without it knew nothing of it: another file of that name was taken for one whose first sequences were read already."""
    parent = planned().as_json()
    kept = {name: source for name, source in parent["sources"].items() if name == "prose"}
    point = asdict(branch_from(parent, "parent", 10))
    between = {**parent, "sources": kept, "branch": json.loads(json.dumps(point))}
    recipe = build_recipe(copy.deepcopy(RECIPE), directory="/nowhere")
    per_epoch = {name: source["sequences_per_epoch"] for name, source in parent["sources"].items()}
    same = {name: manifest(name, 100_000) for name in ("prose", "snippets")}
    assert other_reading(recipe, between, same, per_epoch, {}) == []
    other = {**same, "snippets": replace(same["snippets"], bin_sha256="another")}
    assert ["corpora.snippets is another file" in fault for fault in other_reading(recipe, between, other, per_epoch, {})] == [True]
    assert len(other_reading(recipe, between, same, {**per_epoch, "snippets": 7}, {})) == 1
    before = {**between, "branch": {**between["branch"], "files": {}}}  # as earlier versions wrote it
    assert other_reading(recipe, before, other, per_epoch, {}) == []
