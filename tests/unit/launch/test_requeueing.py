"""Jobs that go on in another one: who waits for them is found and waits for that one, and what was counted stays counted."""

import json

import pytest

from codemix_megatron.launch.slurm import commands, requeueing
from codemix_megatron.launch.slurm.commands import dependents

WAITING = """20|afterok:12_*(unfulfilled)|
21|afterok:12(unfulfilled),afterany:13(unfulfilled)|
22|afterok:1(unfulfilled)|
23|(null)|
24|afterok:112(unfulfilled)|
"""


@pytest.fixture
def slurm(monkeypatch):
    """Answers as squeue does and notes what it is told."""
    told = []

    def client(words, *_, **__):
        told.append(words)
        return WAITING if words[0] == "squeue" else "31\n" if words[0] == "sbatch" else ""

    monkeypatch.setattr(commands, "client", client)
    return told


def test_jobs_that_wait_for_an_array_or_a_job_are_found(slurm):
    assert set(dependents("12")) == {"20", "21"} and set(dependents("1")) == {"22"}


@pytest.mark.parametrize(("job", "now"), [("12", "afterok:31,afterany:13"), ("12_3", "afterok:12:31,afterany:13")])
def test_who_waits_for_a_job_waits_for_the_next_and_who_waits_for_an_array_for_both(slurm, job, now):
    requeueing.hand_over_dependents(job, "31", print)
    updates = {words[2].removeprefix("JobId="): words[3].removeprefix("Dependency=") for words in slurm if words[0] == "scontrol"}
    assert updates["21"] == now and set(updates) == {"20", "21"}


@pytest.mark.parametrize(("job", "note"), [("12", "score.json"), ("12_3", "score-31.json")])
def test_command_that_is_submitted_again_is_noted_and_its_failures_stay_counted(slurm, tmp_path, job, note):
    (tmp_path / "environment.json").write_text('{"command": []}')
    (tmp_path / "score.json").write_text(
        json.dumps({"id": "12", "log": str(tmp_path / "of-12" / "score-12.log"), "script": "score.sbatch"})
    )
    (tmp_path / f"failures-{job}.jsonl").write_text("{}\n{}\n")
    assert requeueing.submit_command_again(tmp_path, job) == "31"
    assert json.loads((tmp_path / note).read_text()) == {
        "id": "31", "log": str(tmp_path / "of-12" / "score-31.log"), "script": "score.sbatch",
    }  # fmt: skip
    counted = "failures-31_3.jsonl" if "_" in job else "failures-31.jsonl"
    assert (tmp_path / counted).read_text() == "{}\n{}\n"
    words = next(words for words in slurm if words[0] == "sbatch")
    assert f"--dependency=afterany:{job}" in words and ("--array=3" in words) == ("_" in job)
