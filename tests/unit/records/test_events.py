"""Events of a journal are dataclasses, and their lines are those that earlier versions wrote, byte for byte."""

import importlib.util
import json
from pathlib import Path

import pytest

from codemix_megatron.errors import CodemixError
from codemix_megatron.launch.slurm.attempts import ATTEMPT_EVENTS, attempt_event_of
from codemix_megatron.records.event_lines import declared, of_kind
from codemix_megatron.records.events import (
    RUN_EVENTS,
    CheckpointEvent,
    PreflightEvent,
    SkippedEvent,
    StepEvent,
    StopEvent,
    UnknownEvent,
    event_of,
)
from codemix_megatron.records.journal import Journal, cut_after, read_events, read_lines

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
# Lines of runs that were trained before there were dataclasses.
JOURNAL, ATTEMPTS = ((GOLDEN / name).read_text().splitlines() for name in ("journal.jsonl", "attempts.jsonl"))


@pytest.mark.parametrize(("lines", "read", "kinds"), [(JOURNAL, event_of, RUN_EVENTS), (ATTEMPTS, attempt_event_of, ATTEMPT_EVENTS)])
def test_lines_of_earlier_runs_are_written_again_byte_for_byte(lines, read, kinds, tmp_path):
    journal = Journal(tmp_path / "lines.jsonl")
    for line in lines:
        journal.append(read(json.loads(line)))
    journal.close()
    assert (tmp_path / "lines.jsonl").read_text().splitlines() == lines
    assert {json.loads(line)["event"] for line in lines} == set(kinds), "a kind without a golden line"


@pytest.mark.parametrize("line", JOURNAL + ATTEMPTS)
def test_a_line_holds_all_that_its_kind_always_has(line):
    known = {**RUN_EVENTS, "begin": ATTEMPT_EVENTS["begin"], "recovery": ATTEMPT_EVENTS["recovery"]}
    kind = ATTEMPT_EVENTS["end"] if '"start": ' in line and '"event": "end"' in line else known[json.loads(line)["event"]]
    assert {found.key for found in declared(kind) if not found.is_optional} <= set(json.loads(line))


def test_an_event_cannot_be_made_without_what_its_lines_always_have():
    with pytest.raises(TypeError, match="bytes"):
        CheckpointEvent(step=3, seconds=1.0, stall_seconds=0.1, asynchronous=False)
    with pytest.raises(TypeError, match="colour"):
        CheckpointEvent(step=3, seconds=1.0, stall_seconds=0.1, bytes=9, asynchronous=False, colour="red")


def test_what_a_newer_version_wrote_is_passed_over_by_readers_and_kept_in_the_file(tmp_path):
    path = tmp_path / "journal.jsonl"
    newer = ['{"event": "comet", "step": 2, "tail": [1]}', '{"event": "stop", "step": 3, "reason": "r", "at": null, "mood": "blue"}']
    path.write_text("\n".join([JOURNAL[7], *newer]) + "\n")
    first, comet, stop = read_events(path)
    assert first.loss == 5.933688818477094 and comet == UnknownEvent(step=2) and stop == StopEvent(step=3, reason="r", at=None)
    cut_after(path, 3)
    assert path.read_text().splitlines() == [JOURNAL[7], *newer]


def test_what_an_older_version_did_not_write_is_filled_in(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event": "step", "step": 3, "loss": 2.5, "tokens_per_source": null}\n{"event": "skipped", "step": 4}\n')
    step, skipped = read_events(path)
    assert (step.tokens, step.phase, step.tokens_per_source, step.mfu) == (0, "", {}, None) and step.loss == 2.5
    assert isinstance(skipped, SkippedEvent) and skipped.documents is None
    assert of_kind([step, skipped], StepEvent) == [step]
    step.tokens_per_source["x"] = 1
    assert read_events(path)[0].tokens_per_source == {}, "what is filled in is made for each event"


@pytest.mark.parametrize("line", ['{"step": 3}', "[1, 2]", '{"event": 7}', "null"])
def test_a_line_that_is_no_event_is_named(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_text(f"{JOURNAL[0]}\n{line}\n{JOURNAL[0]}\n")
    with pytest.raises(
        CodemixError, match=r"journal\.jsonl: line 2 is not an event \(an object with `event`\): .*; fix or remove the line"
    ):
        read_lines(path)


def test_preflight_of_one_node_says_nothing_of_several():
    assert PreflightEvent(step=0, nodes=1, ranks=2, seconds=0.1).as_json() == {
        "event": "preflight",
        "step": 0,
        "nodes": 1,
        "ranks": 2,
        "seconds": 0.1,
    }


def test_the_page_of_the_journal_is_made_from_the_dataclasses():
    path = GOLDEN.parents[1] / "docs" / "write_journal.py"
    spec = importlib.util.spec_from_file_location("write_journal", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.text(), "run python docs/write_journal.py"
