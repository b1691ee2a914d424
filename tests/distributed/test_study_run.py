"""A study on this machine: stopped, failed in one place, resumed; what was trained once is what each variant alone would have trained."""

import signal
import subprocess
import sys

import pytest
import yaml
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment

pytestmark = pytest.mark.distributed

STUDY = {
    "name": "few",
    "base": "recipe.yaml",
    "variants": {
        "plain": None,
        "no-code": {"overrides": {"phases.cooldown.mixture": {"prose": 1.0}}},
        "failing": {"overrides": {"phases.cooldown.mixture": {"snippets": 1.0}}},
    },
    "score": "none",
}


@pytest.fixture(scope="module")
def few(tiny):
    """The study's file over prepared corpora, and an obstacle where one variant's run is to be."""
    (tiny.folder / "few.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    obstacle = tiny.folder / "runs" / "few" / "runs" / "failing" / "notes.txt"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("mine")
    return tiny


@pytest.fixture(scope="module")
def stopped(few):
    """Ctrl-C in the first run; the exit code."""
    words = [sys.executable, "-m", "codemix_megatron", "study", "run", "few.yaml"]
    process = subprocess.Popen(words, cwd=few.folder, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    few.wait_for_step("runs/few/runs/plain.balanced", 1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, output


@pytest.fixture(scope="module")
def finished(few, stopped):
    """The same command again, as far as it comes."""
    return few.codemix("study", "run", "few.yaml")


def test_ctrl_c_saves_and_leaves(few, stopped):
    code, output = stopped
    assert code == 75 and "stopped, all saved, after" in output and "Traceback" not in output
    steps = few.events("runs/few/runs/plain.balanced", "stop")
    assert steps and (few.folder / f"runs/few/runs/plain.balanced/checkpoints/step-{steps[-1]['step']}/card.json").is_file()


def test_one_that_fails_keeps_no_other_from_finishing(few, finished):
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "plain: done" in finished.stdout and "no-code: done" in finished.stdout
    assert "failing: failed: " in finished.stdout and "there and not a run folder (it holds notes.txt)" in finished.stdout
    assert "4 runs: 3 done, 1 failed" in finished.stdout
    status = few.codemix_here("study", "status", "runs/few")
    assert status.returncode == 1 and "notes.txt" in status.stdout


def test_losses_along_a_variants_segments_are_those_of_one_run_bit_for_bit(few, finished, measured):
    whole = few.train("whole")
    assert whole.returncode == 0, whole.stderr
    assert few.losses("runs/few/runs/plain.balanced") + few.losses("runs/few/runs/plain") == few.losses("whole")
    measured("a study's variant of two segments, stopped once in the first: its 20 losses equal those of one run bit for bit")


def test_resume_runs_only_what_is_missing(few, finished):
    (few.folder / "runs/few/runs/failing/notes.txt").unlink()
    done = [few.folder / "runs/few/runs" / name / "journal.jsonl" for name in ("plain.balanced", "plain", "no-code")]
    before = [path.read_bytes() for path in done]
    resumed = few.codemix("study", "resume", "runs/few")
    assert resumed.returncode == 0 and "1 of 4 tasks to do" in resumed.stdout, resumed.stdout + resumed.stderr
    assert [path.read_bytes() for path in done] == before and few.events("runs/few/runs/failing", "end")


def test_variants_are_reported_as_whole_runs(few, finished):
    reported = few.codemix_here("report", "--study", "runs/few")
    assert reported.returncode == 0, reported.stderr
    page = (few.folder / "runs/few/report/index.md").read_text()
    assert "| plain | balanced → cooldown | plain.balanced → plain | no-code and failing |" in page
    assert "| plain | balanced, cooldown | 172K | 20 |" in page.replace("173K", "172K")
    assert "code was" not in page and "resumed" not in page


def test_nothing_is_left_to_do_and_nothing_to_cancel(few, finished):
    again = few.codemix_here("study", "run", "few.yaml")
    assert again.returncode == 0 and "0 of 4 tasks to do" in again.stdout
    assert "nothing is under way" in few.codemix_here("study", "cancel", "runs/few").stdout
