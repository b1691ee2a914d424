"""A study on Slurm: jobs in the order of the tree, what fails stops only what is below it, and resume submits only what is missing."""

import json
import re
import sys
import time

import pytest
import yaml
from patience import PATIENCE_SECONDS, wait_until

STUDY = {
    "name": "queued",
    "base": "recipe.yaml",
    "limit": 2,
    "variants": {
        "plain": None,
        "no-code": {"overrides": {"phases.cooldown.mixture": {"prose": 1.0}}},
        "failing": {"overrides": {"phases.cooldown.mixture": {"snippets": 1.0}}},
        "after-it": {"after": "failing", "phases": ["text"]},
    },
    "phases": {"text": {"tokens": 1024, "mixture": {"prose": 1.0}, "learning_rate": {"schedule": "constant", "peak": 1e-3}}},
    "score": "none",
}
SEGMENTS = ("plain.balanced", "plain", "no-code", "failing", "after-it")


class Queued:
    """`codemix study` on the login node, and the study's records."""

    def __init__(self, launcher):
        self.launcher, self.tiny = launcher, launcher.tiny
        self.folder = self.tiny.folder / "queued"

    def study(self, *words):
        """Run an action to its end."""
        words = ["-m", "codemix_megatron", "study", *words]
        return self.launcher.cluster.run(sys.executable, *words, cwd=self.tiny.folder)

    def wait(self) -> str:
        """Wait until no run is under way; return the last status. Slurm is asked first, which costs a fiftieth of a status."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            shown = "" if self.launcher.cluster.run("squeue", "-h", "-t", "R,CG,CF").stdout else self.study("status", self.folder).stdout
            if shown and not re.search(r"\d (running|queued)", shown):
                return shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.5)

    def starts(self, segment: str) -> int:
        """Return how many starts a segment's jobs have had."""
        return len(self.launcher.attempts(f"queued/runs/{segment}", "begin"))


@pytest.fixture(scope="module")
def queued(launcher):
    """The study submitted, with an obstacle where one variant's run is to be, and waited for."""
    made = Queued(launcher)
    (made.tiny.folder / "queued.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    obstacle = made.folder / "runs" / "failing" / "notes.txt"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("mine")
    done = made.study("run", made.tiny.folder / "queued.yaml", "--on", "slurm", "--site", launcher.site_file(), "--directory", made.folder)
    assert done.returncode == 0 and "5 jobs submitted for 5 tasks, at most 2 at a time" in done.stdout, done.stdout + done.stderr
    made.status = made.wait()
    return made


def test_jobs_of_a_study_run_in_the_order_of_its_tree(queued):
    ended = {segment: queued.tiny.events(f"queued/runs/{segment}", "end") for segment in SEGMENTS}
    begun = {segment: queued.launcher.attempts(f"queued/runs/{segment}", "begin") for segment in SEGMENTS}
    assert ended["plain"] and ended["no-code"], queued.status
    assert all(begun[name][0]["at"] >= ended["plain.balanced"][0]["at"] for name in ("plain", "no-code", "failing"))


def test_failed_run_stops_what_is_below_it_and_nothing_else(queued):
    assert "5 runs: 3 done, 1 failed, 1 blocked" in queued.status
    said = " ".join(queued.status.split())
    assert "failing: rank 0 on node" in said and "after-it: failing failed" in said
    assert queued.starts("failing") == 1 and queued.starts("after-it") == 0  # a user's fault is not tried again


def test_resume_submits_only_what_is_missing(queued, measured):
    (queued.folder / "runs" / "failing" / "notes.txt").unlink()
    resumed = queued.study("resume", queued.folder)
    assert resumed.returncode == 0 and "2 jobs submitted for 5 tasks" in resumed.stdout, resumed.stdout + resumed.stderr
    again = queued.study("resume", queued.folder)
    assert "nothing to submit" in again.stdout, again.stdout
    assert "5 runs: 5 done" in queued.wait()
    assert [queued.starts(segment) for segment in SEGMENTS] == [1, 1, 1, 2, 1]
    measured("Slurm study: 4 variants in 5 runs, one failed; resume ran 2 of 5")


def test_variants_trained_by_jobs_are_those_trained_here(queued):
    done = queued.tiny.train("here")
    assert done.returncode == 0, done.stderr
    losses = [queued.tiny.losses(f"queued/runs/{segment}") for segment in ("plain.balanced", "plain")]
    assert losses[0] + losses[1] == queued.tiny.losses("here")


def test_cancelled_study_saves_and_goes_on(queued):
    longer = {"phases.balanced.tokens": 200 * 512, "corpora.prose.max_epochs": 99, "corpora.snippets.max_epochs": 99}
    study = {**STUDY, "name": "cancelled", "variants": {"plain": {"overrides": longer}}}
    (queued.tiny.folder / "cancelled.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    folder = queued.tiny.folder / "cancelled"
    done = queued.study(
        "run", queued.tiny.folder / "cancelled.yaml", "--on", "slurm", "--site", queued.launcher.site, "--directory", folder
    )
    assert done.returncode == 0, done.stderr
    queued.tiny.wait_for_step("cancelled/runs/plain.balanced", 2)
    cancelled = queued.study("cancel", folder)
    assert re.search(r"jobs that save and leave: \d+; ended: \d+", cancelled.stdout), cancelled.stdout + cancelled.stderr
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not queued.tiny.events("cancelled/runs/plain.balanced", "stop"):
        assert time.monotonic() < deadline, "the running job did not save and leave"
        time.sleep(0.5)


@pytest.mark.slow
def test_study_goes_on_where_the_site_queues_nothing_again(launcher, cluster, measured):
    """A parent that is stopped is followed by another job; its children wait for that one, and the status never calls them cancelled."""
    queued, folder = Queued(launcher), launcher.tiny.folder / "barred-study"
    study = {
        **STUDY,
        "name": "barred-study",
        "limit": None,
        "variants": {"plain": None, "no-code": STUDY["variants"]["no-code"]},
        "score": {"suites": ["bits_per_byte"], "items": 2},
    }
    file = launcher.tiny.folder / "barred-study.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    queued.folder = folder
    site = launcher.site_file(sbatch=["--no-requeue"], export={"time_limit_hours": 1})
    done = queued.study("run", file, "--on", "slurm", "--site", site, "--directory", folder)
    assert done.returncode == 0 and "5 jobs submitted for 5 tasks" in done.stdout, done.stdout + done.stderr
    parent = "barred-study/runs/plain.balanced"
    begin = launcher.wait_for_start(parent, 1)
    queued.tiny.wait_for_step(parent, 2)
    waiting = [job for job in jobs_of(folder) if job != begin["job"]]
    cluster.run("scancel", "--batch", "--signal=USR1", begin["job"])
    end = wait_until(lambda: launcher.attempts(parent, "end"), lambda: launcher.log(parent))[0]
    following = end["next_job"]
    cluster.wait_for_job(begin["job"])
    shown = queued.study("status", folder)
    assert end["action"] == "resubmit" and not re.search(r"failed|cancelled|blocked", shown.stdout), shown.stdout
    for job in waiting:  # what waited for the first job waits for the second
        assert f":{begin['job']}(" not in cluster.fields(job).get("Dependency", ""), cluster.fields(job)
    assert any(f":{following}(" in cluster.fields(job).get("Dependency", "") for job in waiting)
    said: list[str] = []

    def is_scored() -> bool:
        said.append(queued.study("status", folder).stdout)
        return "2 of 2 scored" in said[-1] or "failed" in said[-1]

    wait_until(is_scored, lambda: said[-1])
    assert "3 runs: 3 done; 2 of 2 scored" in said[-1], said[-1]
    losses = [queued.tiny.losses(f"barred-study/runs/{name}") for name in ("plain.balanced", "plain")]
    here = queued.tiny.train("here-again")
    assert here.returncode == 0 and losses[0] + losses[1] == queued.tiny.losses("here-again"), here.stderr
    for name in ("plain", "no-code"):  # exports had jobs of their own
        assert (folder / "runs" / name / "launch" / "export.sbatch").is_file()
        assert (folder / "runs" / name / "scores").is_dir()
    measured("Slurm study with --no-requeue: a parent stopped and followed by another job, its children trained and scored, losses equal")


def jobs_of(folder) -> list[str]:
    """Return the jobs that a study has submitted."""
    tasks = json.loads((folder / "study.json").read_text())["tasks"]
    return [entry["job"] for entry in tasks.values() if entry.get("job")]
