"""What becomes of a job after a start, decided from what its records say."""

from dataclasses import replace

import pytest

from codemix_megatron.launch.slurm.job_facts import was_cancelled, was_preempted
from codemix_megatron.launch.slurm.restart_policy import AttemptResult, decide

ENDED = AttemptResult(exit_code=1, steps=40, checkpoint_step=30, starts_without_progress=1, max_starts=3)


THERE = "checkpoint of step 30 is there"
GIVEN_UP = "given up after 3 starts in a row without a new checkpoint (max_starts_without_progress 3)"


@pytest.mark.parametrize(
    ("what", "action", "exit_code", "why"),
    [
        ({"event": "end"}, "done", 0, "trained to step 40"),
        ({"event": "end", "exit_code": 1, "failure": "rank 1 on b failed first: x"}, "done", 0, "trained to step 40"),
        ({"event": "stop", "signal": "USR1"}, "requeue", 75, f"stopped by USR1 and saved; {THERE}"),
        ({"event": "stop", "is_preempted": True}, "requeue", 75, f"stopped by preemption and saved; {THERE}"),
        ({"event": "stop"}, "leave", 75, "stopped by the user and saved at step 30; the same codemix launch resumes"),
        ({"event": "stop", "signal": "TERM", "is_cancelled": True}, "leave", 75, f"cancelled; {THERE}; the same codemix launch resumes from there"),
        ({"signal": "TERM", "is_requeued": True}, "leave", 75, f"Slurm queues the job again; {THERE}"),
        ({"signal": "TERM", "is_requeued": True, "lost_node": "b"}, "leave", 75, f"b was lost; Slurm queues the job again; {THERE}"),
        ({"signal": "TERM", "is_cancelled": True, "lost_node": "b"}, "requeue", 75, f"b was lost; {THERE}"),
        ({"event": "stop", "lost_node": "b"}, "requeue", 75, f"b was lost; {THERE}"),
        ({"lost_node": "b", "starts_without_progress": 3}, "fail", 1, f"b was lost; {GIVEN_UP}; {THERE}"),
        ({"is_overtaken": True}, "leave", 1, "a later start works on this run"),
        ({"is_overtaken": True, "is_requeued": True}, "leave", 1, "a later start works on this run"),
        ({"signal": "USR1"}, "requeue", 75, f"USR1 came, and the ranks did not save in time; {THERE}"),
        ({"is_preempted": True}, "requeue", 75, f"preemption came, and the ranks did not save in time; {THERE}"),
        ({"failure": "rank 1 on b failed first: x"}, "requeue", 75, f"rank 1 on b failed first: x; {THERE}"),
        ({"failure": "seed: found x", "failure_exit_code": 2}, "fail", 2, "seed: found x; trying again would not help"),
        ({"failure": "seed: found x", "failure_exit_code": 2, "signal": "USR1"}, "requeue", 75, f"USR1 came, and the ranks did not save in time; {THERE}"),
        ({"failure": None, "failure_exit_code": 2}, "requeue", 75, f"srun ended with exit code 1 and no rank said why; {THERE}"),
        ({"exit_code": 9}, "requeue", 75, f"srun ended with exit code 9 and no rank said why; {THERE}"),
        ({"starts_without_progress": 3, "failure": "x"}, "fail", 1, f"x; {GIVEN_UP}; {THERE}"),
        ({"starts_without_progress": 2, "failure": "x"}, "requeue", 75, f"x; {THERE}"),
        ({"starts_without_progress": 1, "max_starts": 1, "failure": "x"}, "fail", 1,
         f"x; given up after 1 start in a row without a new checkpoint (max_starts_without_progress 1); {THERE}"),
        ({"starts_without_progress": 3, "signal": "USR1", "checkpoint_step": 0}, "fail", 1,
         f"USR1 came, and the ranks did not save in time; {GIVEN_UP}; there is no checkpoint yet"),
        ({"starts_without_progress": 0, "failure": "x", "checkpoint_step": 1}, "requeue", 75, "x; checkpoint of step 1 is there"),
    ],
)  # fmt: skip
def test_job_is_done_queued_again_left_or_given_up_and_says_why(what, action, exit_code, why):
    verdict = decide(replace(ENDED, **what))
    assert (verdict.action, verdict.exit_code, verdict.why) == (action, exit_code, why)


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
