"""What becomes of a job after a start, decided from what its records say."""

from dataclasses import replace

import pytest

from codemix_megatron.launch.slurm.job_facts import was_cancelled, was_preempted
from codemix_megatron.launch.slurm.restart_policy import AttemptResult, decide

ENDED = AttemptResult(exit_code=1, steps=40, checkpoint_step=30, starts_without_progress=1, max_starts=3)


@pytest.mark.parametrize(
    ("what", "action", "words"),
    [
        ({"event": "end"}, "done", "trained to step 40"),
        ({"event": "end", "exit_code": 1, "failure": "rank 1 on b failed first: x"}, "done", "trained to step 40"),
        ({"event": "stop", "signal": "USR1"}, "requeue", "stopped by USR1 and saved; checkpoint of step 30 is there"),
        ({"event": "stop", "is_preempted": True}, "requeue", "stopped by preemption and saved"),
        ({"event": "stop"}, "leave", "stopped by the user and saved at step 30"),
        ({"event": "stop", "signal": "TERM", "is_cancelled": True}, "leave", "cancelled; checkpoint of step 30 is there"),
        ({"signal": "TERM", "is_requeued": True}, "leave", "Slurm queues the job again"),
        ({"signal": "TERM", "is_requeued": True, "lost_node": "b"}, "leave", "b was lost; Slurm queues the job again"),
        ({"signal": "TERM", "is_cancelled": True, "lost_node": "b"}, "requeue", "b was lost; checkpoint of step 30 is there"),
        ({"lost_node": "b", "starts_without_progress": 3}, "fail", "b was lost; given up after 3 starts in a row"),
        ({"is_overtaken": True}, "leave", "a later start works on this run"),
        ({"signal": "USR1"}, "requeue", "USR1 came, and the ranks did not save in time"),
        ({"failure": "rank 1 on b failed first: x"}, "requeue", "rank 1 on b failed first: x"),
        ({"failure": "seed: found x", "failure_exit_code": 2}, "fail", "seed: found x; trying again would not help"),
        ({"exit_code": 9}, "requeue", "srun ended with exit code 9 and no rank said why"),
        ({"starts_without_progress": 3, "failure": "rank 1 on b failed first: x"}, "fail", "given up after 3 starts in a row"),
        ({"starts_without_progress": 3, "signal": "USR1", "checkpoint_step": 0}, "fail", "there is no checkpoint yet"),
        ({"starts_without_progress": 0, "failure": "x"}, "requeue", "x"),
    ],
)
def test_job_is_done_queued_again_left_or_given_up(what, action, words):
    verdict = decide(replace(ENDED, **what))
    assert verdict.action == action and words in verdict.why


def test_exit_codes_are_those_of_other_commands():
    codes = [decide(replace(ENDED, **what)).exit_code for what in ({"event": "end"}, {"event": "stop", "signal": "USR1"}, {"failure": "x"})]
    assert codes == [0, 75, 75]
    assert decide(replace(ENDED, failure="x", failure_exit_code=2)).exit_code == 2
    assert decide(replace(ENDED, failure="x", starts_without_progress=3)).exit_code == 1


@pytest.mark.parametrize(
    ("state", "ran", "limit", "cancelled"),
    [
        ("COMPLETING", "00:09:59", "00:10:00", True),
        ("COMPLETING", "00:10:03", "00:10:00", False),
        ("COMPLETING", "1-00:00:01", "1-00:00:00", False),
        ("COMPLETING", "2-03:00:00", "UNLIMITED", True),
        ("CANCELLED", "00:00:01", "10:00:00", True),
        ("RUNNING", "00:00:01", "00:10:00", False),
    ],
)
def test_job_that_slurm_ends_before_its_limit_was_cancelled(state, ran, limit, cancelled):
    assert was_cancelled({"JobState": state, "RunTime": ran, "TimeLimit": limit}) is cancelled


def test_preemption_of_an_earlier_start_does_not_count():
    times = {"StartTime": "2026-01-01T10:00:00", "PreemptTime": "2026-01-01T10:00:05"}
    assert was_preempted(times) and not was_preempted(times | {"StartTime": "2026-01-01T11:00:00"})
    assert not was_preempted({"StartTime": "2026-01-01T10:00:00", "PreemptTime": "None"})
