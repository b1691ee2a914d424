"""A run that was trained in segments reads as the one run it is."""

from dataclasses import replace

import pytest
from curved_run import PHASES, make_curved_run

from codemix_megatron.records.events import EndEvent, PhaseEndEvent, StartEvent
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.report.arms import group_arms
from codemix_megatron.report.chain import join_segments, lineage_section
from codemix_megatron.report.comparison import compare_runs
from codemix_megatron.report.consumption import tokens_by_kind, use_of_sources
from codemix_megatron.report.markdown import markdown
from codemix_megatron.report.roles import parent_of
from codemix_megatron.report.run_data import read_run
from codemix_megatron.report.sweeps import find_sweeps
from codemix_megatron.report.training_curves import find_interruptions, read_status
from codemix_megatron.report.wording import short_count


def cut(whole, folder):
    """Return the run cut into a segment per phase, as three run folders would have it."""
    segments, sources = [], whole.plan["sources"]
    for i, phase in enumerate(whole.plan["phases"]):
        first = i * phase["steps"]
        drawn = {name: sum(p["sources"][name]["sequences"] for p in whole.plan["phases"][:i]) for name in sources}
        given = {name: {key: entry[key] for key in ("sequences", "tokens")} for name, entry in phase["sources"].items()}
        own = {name: {**source, **given[name]} for name, source in sources.items()}
        plan = {
            **whole.plan,
            "phases": [phase],
            "tokens": phase["tokens"],
            "steps": first + phase["steps"],
            "sources": own,
            "branch": {"run": str(folder / str(i - 1)), "step": first, "consumed": drawn} if i else None,
        }
        steps = [event for event in whole.steps if event.phase == phase["name"]]
        last = steps[-1].step
        begin, end = StartEvent.from_json({"step": first}), EndEvent.from_json({"step": last})
        events = [begin, *steps, PhaseEndEvent(step=last, phase=phase["name"]), end]
        run = RunFolder(folder / str(i))
        run.path.mkdir()
        run.journal.touch()
        recipe = replace(whole.recipe, name=str(i), phases=(whole.recipe.phases[min(i, len(whole.recipe.phases) - 1)],))
        segments.append(replace(whole, folder=run, name=str(i), recipe=recipe, plan=plan, events=events, steps=steps, validations=[]))
    return segments


@pytest.fixture
def whole(tmp_path):
    """A finished run of three phases."""
    return read_run(make_curved_run(tmp_path / "whole"))


def test_joined_segments_have_the_whole_runs_steps_phases_and_tokens(whole, tmp_path):
    joined = join_segments("joined", cut(whole, tmp_path))
    assert joined.steps == whole.steps and joined.phase_names == list(PHASES) and joined.branch is None
    assert use_of_sources(joined) == use_of_sources(whole) and tokens_by_kind(joined) == tokens_by_kind(whole)
    assert read_status(joined).finished and not find_interruptions(joined)
    assert joined.ancestors == [tmp_path / "1", tmp_path / "0"] and len(joined.recipe.phases) == 3


def test_chain_whose_end_has_not_begun_is_neither_finished_nor_scored(whole, tmp_path):
    first, second, _ = cut(replace(whole, scores=["some"]), tmp_path)
    joined = join_segments("joined", [first, second], is_whole=False)
    assert not read_status(joined).finished and joined.scores == []
    assert join_segments("ended", [first, second]).scores == ["some"]


def test_run_that_ends_where_another_goes_on_is_its_parent(whole, tmp_path):
    first, second, third = cut(replace(whole, scores=["some"]), tmp_path)
    early, late = join_segments("early", [first, second]), join_segments("late", [first, second, third])
    assert parent_of(late, [early, late]) is early and parent_of(early, [early, late]) is None
    assert find_sweeps(group_arms([early, late])) == []


def test_report_says_what_was_trained_once(whole, tmp_path):
    first, second, third = cut(whole, tmp_path)
    early, late = join_segments("early", [first, second]), join_segments("late", [first, second, third])
    text = markdown(compare_runs([early, late]))
    tokens = [phase["tokens"] for phase in whole.plan["phases"]]
    once, alone = short_count(sum(tokens)), short_count(sum(tokens) + sum(tokens[:2]))
    assert f"{once} tokens were trained once for all runs; each alone, they would have been {alone}." in text
    assert "| late | balanced → text → cooldown | 0 → 1 → 2 | early |" in text
    assert lineage_section([whole], ["whole"]) == []
