"""A run that lost its terminal, was moved and got another phase: its losses are those of one that did all of it undisturbed."""

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import yaml
from patience import PATIENCE_SECONDS
from tiny_run import RECIPE, Tiny, clean_environment

pytestmark = pytest.mark.distributed
LONG = 96  # steps of the first phase: far more than pass before a signal arrives
THIRD = {"name": "third", "tokens": 4 * 512, "mixture": {"snippets": 1.0}, "learning_rate": {"peak": 1e-4}}


def recipe_of(*phases) -> str:
    first = {**RECIPE["phases"][0], "tokens": LONG * 512}
    return yaml.safe_dump({**RECIPE, "phases": [first, *phases], "checkpoint": {"every_steps": 2, "keep_last": 1}}, sort_keys=False)


@pytest.fixture(scope="module")
def whole(tiny):
    """A run that did both phases in one go."""
    (tiny.folder / "whole.yaml").write_text(recipe_of(THIRD))
    done = tiny.codemix("train", "whole.yaml", "--folder", "whole")
    assert done.returncode == 0, done.stderr
    return tiny.losses("whole")


def lead_the_terminal() -> None:
    """Make this process the leader of a session with its standard input as its terminal, which heeds SIGHUP though the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def other_runs(folder: str, names: list[str]) -> list[str]:
    """Return what is a run folder of this file's or of another's that had the project before."""
    return [name for name in names if (Path(folder) / name / "journal.jsonl").is_file()]


@pytest.fixture(scope="module")
def dropped(tiny, tmp_path_factory):
    """A project of its own, whose run was stopped by a terminal that went away."""
    project = Tiny(tmp_path_factory.mktemp("dropped") / "project")
    shutil.copytree(tiny.folder, project.folder, ignore=other_runs)
    project.recipe.write_text(recipe_of(RECIPE["phases"][1]))
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "codemix_megatron", "train", "recipe.yaml"]
    process = subprocess.Popen(
        command, cwd=project.folder, env=clean_environment(), stdin=slave, stdout=slave, stderr=slave,
        preexec_fn=lead_the_terminal,
    )  # fmt: skip
    os.close(slave)
    project.wait_for_step("runs/tiny", 3)
    os.close(master)  # the kernel sends SIGHUP, and every write to the terminal fails from here on
    assert process.wait(PATIENCE_SECONDS) == 75
    return project


def test_a_dropped_terminal_saves_the_run(dropped):
    stop = dropped.events("runs/tiny", "stop")[-1]["step"]
    assert 3 <= stop < LONG
    assert (dropped.folder / "runs/tiny/checkpoints" / f"step-{stop}" / "card.json").is_file()
    assert "stopped at step" in (dropped.folder / "runs/tiny/logs/console.log").read_text()


def test_moved_lengthened_and_linked_it_goes_on_as_if_nothing_had_been(dropped, whole, measured):
    stop = dropped.events("runs/tiny", "stop")[-1]["step"]
    moved = Tiny(dropped.folder.with_name("moved"))
    shutil.move(dropped.folder, moved.folder)
    run, archive = moved.folder / "runs" / "tiny", moved.folder / "archive"
    shutil.move(run / "checkpoints" / f"step-{stop}", archive)
    (run / "checkpoints" / f"step-{stop}").symlink_to(archive)
    moved.recipe.write_text(recipe_of(THIRD))  # another second phase than it began with
    elsewhere = moved.folder / "corpora"
    done = subprocess.run(
        [sys.executable, "-m", "codemix_megatron", "train", str(moved.recipe)], cwd=elsewhere, env=clean_environment(),
        capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert moved.losses("runs/tiny") == whole
    measured(f"hung up at step {stop}, moved, given another second phase, resumed: {len(whole)} losses equal bit for bit")
    assert not (run / "checkpoints" / f"step-{stop}").exists() and (archive / "card.json").is_file()
    audited = moved.codemix_here("audit", run)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert sorted(p.name for p in (run / "recipes").iterdir()) == ["from-step-0.yaml", f"from-step-{stop}.yaml"]
    assert any("third" in line for line in moved.events("runs/tiny", "recipe")[0]["changed"])
    first, _ = moved.events("runs/tiny", "phase_end")
    losses = moved.losses("runs/tiny")[:LONG]
    assert first["steps_measured"] == LONG and first["loss"] == pytest.approx(sum(losses) / LONG, abs=1e-12)
    again = moved.codemix_here("train", run / "recipe.yaml")  # the run's own recipe means the run
    assert again.returncode == 0 and f"{run}: already trained to step {LONG + 4} of {LONG + 4}" in again.stdout
    check_nothing_else_was_made(moved)


def check_nothing_else_was_made(moved: Tiny) -> None:
    """No second run beside the corpora or anywhere else, and the journal is whole."""
    assert [path.parent.name for path in moved.folder.rglob("journal.jsonl")] == ["tiny"]
    lines = (moved.folder / "runs/tiny/journal.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "end"


@pytest.mark.slow
def test_mean_of_checkpoints_is_a_run_to_export_branch_off_and_train_on(tiny, whole):
    listed = tiny.codemix_here("average", "whole", "--last", 5)
    assert listed.returncode == 2 and f"5 checkpoints are to be averaged, there are steps {LONG}, {LONG + 2}, {LONG + 4}" in listed.stderr
    averaged = tiny.codemix_here("average", "whole", "--steps", f"{LONG},{LONG + 4}")
    assert averaged.returncode == 0, averaged.stderr
    run = tiny.folder / "whole-average-2"
    assert f"the mean of steps {LONG}, {LONG + 4} is step {LONG + 4} of {run}" in averaged.stdout
    exported = tiny.codemix_here("export", run)
    assert exported.returncode == 0 and "parity: logits differ" in exported.stdout, exported.stderr
    assert tiny.codemix_here("checkpoints", run, "--verify").returncode == 0
    branch = {"name": "off", "branch": {"run": str(run)}, "phases": [{**THIRD, "name": "off", "tokens": 1024}]}
    (tiny.folder / "off.yaml").write_text(yaml.safe_dump(branch))
    trained = tiny.codemix("train", "off.yaml", "--folder", "off")
    assert trained.returncode == 0, trained.stderr
    assert [event["step"] for event in tiny.events("off")] == [LONG + 5, LONG + 6]


def test_corpus_changed_in_place_is_neither_trained_on_nor_audited(tiny, whole):
    path = tiny.folder / "corpora" / "prose.bin"
    before = path.read_bytes()
    with open(path, "r+b") as handle:
        handle.write(bytes(reversed(before[:64])))
    try:
        for words in (("train", "whole.yaml", "--folder", "whole"), ("audit", "whole")):
            refused = tiny.codemix_here(*words)
            assert refused.returncode == 2 and f"{path}: changed since it was prepared" in refused.stderr, refused.stderr + refused.stdout
    finally:
        with open(path, "r+b") as handle:
            handle.write(before)
