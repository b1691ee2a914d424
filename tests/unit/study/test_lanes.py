"""Lanes hold a study's jobs to a number at a time, whatever each takes and however it ends."""

from hypothesis import given
from hypothesis import strategies as st

from codemix_megatron.study.lanes import Lanes
from codemix_megatron.study.slurm import dependency

JOBS = st.lists(st.tuples(st.integers(-1, 30), st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=25)


def dealt(jobs, limit: int | None) -> list[tuple[list[int], int | None]]:
    """Return (parents, job before it in its lane) of jobs given as (parent or a number below 0, planned steps, real time)."""
    lanes, waits = Lanes(limit), []
    for number, (parent, steps, _) in enumerate(jobs):
        parents = [str(parent)] if 0 <= parent < number else []
        lane, before = lanes.choose(parents, steps)
        lanes.put(lane, str(number), parents, steps)
        waits.append(([int(p) for p in parents], None if before is None else int(before)))
    return waits


@given(JOBS, st.integers(1, 5))
def test_no_more_jobs_run_at_a_time_than_there_are_lanes(jobs, limit):
    began, ended = [], []
    for (parents, before), (_, _, real) in zip(dealt(jobs, limit), jobs, strict=True):
        began.append(max([ended[p] for p in parents] + ([ended[before]] if before is not None else []), default=0))
        ended.append(began[-1] + real)
    for moment in began:
        assert sum(b <= moment < e for b, e in zip(began, ended, strict=True)) <= limit


def test_without_a_limit_nothing_waits_for_its_turn():
    assert [before for _, before in dealt([(-1, 1, 1)] * 5, None)] == [None] * 5


def test_children_wait_for_their_parent_and_the_lane_for_any_end():
    assert dependency([], None) == ([], "afterany") and dependency([], "7") == (["7"], "afterany")
    assert dependency(["3"], None) == (["3"], "afterok") and dependency(["3"], "7") == (["3,afterany:7"], "afterok")
    assert dependency(["3"], "3") == (["3"], "afterok")
