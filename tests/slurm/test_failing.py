"""A rank that fails ends its job soon, is named, and its node is avoided; a job that always dies is given up."""

import time

import pytest


def interpreter(tiny, name: str, on_rank_1: str, python: str) -> str:
    """Write an interpreter for a site file that does something else on rank 1 first."""
    path = tiny.folder / name
    path.write_text(f'#!/bin/sh\n[ "$SLURM_PROCID" = 1 ] && {on_rank_1}\nexec {python} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def unable(launcher, cluster, tiny):
    """A run whose second rank can write no file as large as a checkpoint: the seconds from the save to the end, and the job."""
    python = interpreter(tiny, "small-files", "ulimit -f 200", launcher.python)
    job = launcher.train("unable", "parallel.tensor=2", "checkpoint.every_steps=1", python=python, max_starts_without_progress=1)
    tiny.wait_for_step("unable", 1)
    began = time.monotonic()
    return {"fields": cluster.wait_for_job(job), "seconds": time.monotonic() - began}


def test_failing_rank_ends_the_job_soon_and_rank_node_and_line_are_named(launcher, unable, measured):
    assert unable["seconds"] < 60 and unable["fields"]["JobState"] == "FAILED"
    begin, end = launcher.attempts("unable", "begin")[0], launcher.attempts("unable", "end")[0]
    assert f"rank 1 on {begin['nodes'][1]} failed first, at codemix_megatron/checkpoint/writing.py:" in end["why"], launcher.log("unable")
    assert "File too large" in end["why"] and end["why"] in launcher.log("unable")
    measured(f"Slurm, a rank that cannot write: the job has ended {unable['seconds']:.1f} s later")


@pytest.fixture(scope="module")
def hopeless(launcher, cluster, tiny):
    """A run whose second rank always dies at once, on the first start with words of a driver that has lost its device."""
    # The second of sleep lets srun pass the words on: it may drop what a task wrote in the moment of its end.
    words = 'if [ -z "$SLURM_RESTART_COUNT" ]; then echo "RuntimeError: CUDA error: uncorrectable ECC error encountered" >&2; sleep 1; exit 1; fi'
    python = interpreter(tiny, "killed", f"{{ {words}; kill -9 $$; }}", "sleep 100; ")
    job = launcher.train("hopeless", "parallel.tensor=2", python=python, max_starts_without_progress=3)
    return cluster.wait_for_job(job)


def test_node_of_which_the_hardware_failed_is_avoided_on_the_next_start(launcher, hopeless):
    first, second, _ = launcher.attempts("hopeless", "begin")
    node, end = first["nodes"][1], launcher.attempts("hopeless", "end")[0]
    assert node not in second["nodes"] and end["bad_node"] == node, launcher.log("hopeless")
    assert "uncorrectable ECC error" in end["why"] and f"{node} is left out on the next start" in launcher.log("hopeless")


def test_node_of_a_rank_that_somebody_killed_is_not_blamed(launcher, hopeless):
    second = launcher.attempts("hopeless", "begin")[1]
    end = launcher.attempts("hopeless", "end")[1]
    assert "bad_node" not in end and f"rank 1 on {second['nodes'][1]} failed first: killed by a signal (Killed)" in end["why"]


def test_job_that_makes_no_progress_is_given_up(launcher, hopeless):
    assert (hopeless["JobState"], hopeless["Restarts"], hopeless["ExitCode"]) == ("FAILED", "2", "1:0")
    last = launcher.attempts("hopeless", "end")[-1]
    assert last["action"] == "fail" and "given up after 3 starts in a row without a new checkpoint" in last["why"]
