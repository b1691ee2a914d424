"""A real run tells where its time went, shows it on a terminal, and writes a trace when asked."""

import gzip
import json
import re
import statistics

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.cli.progress import JournalProgress
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.events import StartEvent, StepEvent
from codemix_megatron.records.journal import Journal
from codemix_megatron.records.run_folder import RunFolder

pytestmark = pytest.mark.distributed


def test_a_run_tells_where_its_time_went_and_writes_the_trace_asked_for(tiny):
    words = ["--nproc", "1", "--profile", "2-3", "observers.peak_teraflops=0.1", "evaluation.held_out_sequences=1"]
    done = tiny.train("measured", *words, "phases.0.tokens=1024", "phases.1.tokens=1024")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = tiny.events("measured")
    for step in steps:
        assert sum(step["seconds_per_part"].values()) == pytest.approx(step["seconds"], rel=0.01, abs=2e-3)
        assert step["seconds_per_part"]["forward_backward"] > 0 and step["seconds_per_part"]["optimizer"] > 0
        assert step["memory_bytes"]["host_peak"] > 1e8
        assert step["mfu"] == pytest.approx(step["model_flops_per_second"] / 0.1e12, abs=1e-4)
    first, _ = tiny.events("measured", "phase_end")
    assert first["loss"] == pytest.approx(statistics.mean(s["loss"] for s in steps if s["phase"] == "balanced"))
    assert "end of balanced: loss" in done.stdout and "profile up to step 3" in done.stdout

    trace = json.loads(gzip.decompress((tiny.folder / "measured/profiles/steps-2-3/rank-0.json.gz").read_bytes()))
    names = [event.get("name") for event in trace["traceEvents"] if event.get("ph") == "X"]
    assert names.count("train_step") == 2 and names.count("data") == 2 and "aten::mm" in names


@pytest.mark.parametrize(
    ("steps", "message"),
    [("0", "--profile 0: write the first and the last step"), ("5-3", "such as 10-12"), ("x", "such as 10-12"), ("21", "the run has 20")],
)
def test_steps_that_are_none_are_refused(tiny, monkeypatch, capsys, steps, message):
    monkeypatch.chdir(tiny.folder)
    monkeypatch.setenv("CODEMIX_PROFILE", "")
    assert main(["train", "recipe.yaml", "--folder", "refused", "--nproc", "1", "--profile", steps]) == 2
    assert message in capsys.readouterr().err


def test_the_bar_shows_tokens_speed_loss_and_phase(tiny, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tiny.folder)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    recipe = read_recipe("recipe.yaml", [])
    run = RunFolder(tmp_path)
    journal = Journal(run.journal)
    with JournalProgress(run, make_plan(recipe, read_manifests(recipe), 1), 5, "here") as progress:
        journal.append(StartEvent.from_json({"step": 2, "launch": "here"}))
        step = {"step": 3, "tokens": 1536, "phase": "balanced", "loss": 4.0, "loss_per_source": {"prose": 4.0}, "seconds": 0.5}
        journal.append(StepEvent.from_json({**step, "tokens_per_second": 1024.0, "learning_rate": 1.0}))
        progress.update()
        task = progress.bar.tasks[0]
        assert (task.completed, task.total) == (1536, 10240)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "balanced" in shown and "1.54K of 10.2K 1.02K tokens/s loss 4.000" in shown and "left" in shown
