"""`codemix watch` follows a folder that somebody else writes, and leaves when there is nothing more to hear."""

import json
import threading
import time

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.records.journal import Journal
from codemix_megatron.records.journal_tail import JournalTail
from codemix_megatron.records.run_folder import RunFolder

STEP = {
    "phase": "first",
    "tokens": 512,
    "loss": 2.5,
    "seconds": 0.1,
    "loss_per_source": {"prose": 2.5},
    "learning_rate": 1e-3,
    "tokens_per_second": 10.0,
}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run that has made one step."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.recipe.write_text("name: run\n")
    folder.environment.write_text("{}")
    folder.plan.write_text('{"steps": 3}')
    journal = Journal(folder.journal)
    journal.append_line({"event": "start", "step": 0, "at": "2026-11-28T12:00:00+00:00"})
    journal.append_line({"event": "step", "step": 1, **STEP})
    journal.close()
    return folder


def written_later(run: RunFolder, last: str) -> threading.Thread:
    """Write the rest of the run half a second from now, a line in two pieces among it."""

    def write() -> None:
        time.sleep(0.3)
        line = json.dumps({"event": "step", "step": 2, **STEP}) + "\n"
        for piece in (line[:20], line[20:]):
            with open(run.journal, "a") as handle:
                handle.write(piece)
            time.sleep(0.1)
        journal = Journal(run.journal)
        journal.append_line({"event": last, "step": 2, "reason": "asked to stop", "at": "2026-11-28T12:00:01+00:00", "seconds": 1.0})
        journal.close()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


@pytest.mark.parametrize(("last", "code"), [("end", 0), ("stop", 75)])
def test_lines_come_as_they_are_written_until_the_run_ends(run, capsys, last, code):
    thread = written_later(run, last)
    before = run.journal.read_text()
    assert main(["watch", str(run), "--every-seconds", "0.05", "--console-every-steps", "1"]) == code
    thread.join()
    out = capsys.readouterr().out
    assert "step 1  first  loss 2.5000" in out and "step 2/3  first" in out and "no heartbeats in this folder" in out
    assert run.journal.read_text().startswith(before)
    assert {p.name for p in run.path.iterdir()} == {"environment.json", "journal.jsonl", "plan.json", "recipe.yaml"}


def test_as_json_every_event_is_a_line_from_the_first_on(run, capsys):
    thread = written_later(run, "end")
    assert main(["watch", str(run), "--every-seconds", "0.05", "--json"]) == 0
    thread.join()
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["start", "step", "step", "end"]


def test_a_silent_run_is_left_with_what_is_known(run, capsys):
    began = time.monotonic()
    assert main(["watch", str(run), "--every-seconds", "0.05", "--quiet-seconds", "0.3"]) == 1
    assert time.monotonic() - began < 30 and "nothing recorded for 0.3 seconds" in capsys.readouterr().err
    assert main(["watch", str(run), "--once"]) == 0
    assert main(["watch", str(run), "--every-seconds", "nan"]) == 2 and main(["watch", str(run.path / "none")]) == 2


def test_heartbeats_in_the_folder_say_what_ranks_do(run, capsys):
    heartbeats = run.logs / "heartbeats"
    heartbeats.mkdir(parents=True)
    for rank, where in enumerate(["step 2, getting the batch", "step 2, getting the batch", "the save of step 1"]):
        heartbeat = {"rank": rank, "size": 3, "host": "n1", "pid": 1, "stacks": "", "tick_seconds": 1.0, "where": where}
        (heartbeats / f"heart-{rank}.json").write_text(json.dumps(heartbeat))
    assert main(["watch", str(run), "--once"]) == 0
    assert "3 ranks: 2 at step 2, getting the batch (rank 0 first); 1 at the save of step 1 (rank 2 first)" in capsys.readouterr().out


def test_tail_begins_again_where_the_journal_was_replaced(run):
    tail = JournalTail(run.journal)
    assert len(tail.new_lines()) == 2 and tail.new_lines() == []
    other = run.path / "other"
    other.write_text('{"event": "start", "step": 0}\nno json\n')
    other.replace(run.journal)
    assert [event["event"] for event in tail.new_lines()] == ["start"]
    run.journal.unlink()
    assert tail.new_lines() == []
