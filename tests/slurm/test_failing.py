"""A rank that fails ends its job soon, is named, and its node is avoided; a job that always dies is given up."""

import time

import pytest


@pytest.fixture(scope="module")
def doomed(launcher, cluster, tiny):
    """A run whose second rank can write no file as large as a checkpoint, so that every start dies at its first save."""
    python = tiny.folder / "python"
    python.write_text(f'#!/bin/sh\n[ "$SLURM_PROCID" = 1 ] && ulimit -f 200\nexec {launcher.python} "$@"\n')
    python.chmod(0o755)
    settings = {"python": str(python), "max_starts_without_progress": 2}
    job = launcher.train("doomed", "parallel.tensor=2", "checkpoint.every_steps=1", **settings)
    tiny.wait_for_step("doomed", 1, seconds=200)
    began, ends = time.monotonic(), []
    while not ends:
        ends = launcher.attempts("doomed", "end")
        time.sleep(0.05)
    return {"seconds": time.monotonic() - began, "fields": cluster.wait_for_job(job)}


def test_failing_rank_ends_the_job_soon_and_rank_node_and_line_are_named(launcher, doomed, measured):
    assert doomed["seconds"] < 60
    first = launcher.attempts("doomed", "end")[0]
    node = launcher.attempts("doomed", "begin")[0]["nodes"][1]
    assert f"rank 1 on {node} failed first" in first["why"] and "File too large" in first["why"], launcher.log("doomed")
    assert "writing.py:" in first["why"]
    assert first["why"] in launcher.log("doomed")
    measured(f"Slurm, a rank that cannot write: all ranks ended after {doomed['seconds']:.1f} s")


def test_node_of_the_failed_rank_is_avoided_on_the_next_start(launcher, doomed):
    first, second = launcher.attempts("doomed", "begin")
    assert first["nodes"][1] not in second["nodes"]
    assert f"{first['nodes'][1]} is left out on the next start" in launcher.log("doomed")


def test_job_that_makes_no_progress_is_given_up(launcher, doomed):
    assert doomed["fields"]["JobState"] == "FAILED" and doomed["fields"]["Restarts"] == "1"
    last = launcher.attempts("doomed", "end")[-1]
    assert last["action"] == "fail" and "given up after 2 starts in a row without a new checkpoint" in last["why"]
