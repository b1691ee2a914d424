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


def test_a_job_goes_to_the_lane_that_is_free_first_and_of_several_to_the_one_that_idles_least():
    """Worked out by hand, as (lane, job it waits for there) and when each would end."""
    lanes = Lanes(2)
    jobs = [("a", [], 5), ("b", [], 3), ("c", [], 2.5), ("d", ["a"], 1), ("e", ["b", "a"], 2), ("f", [], 1)]
    found = []
    for name, parents, steps in jobs:
        lane, before = lanes.choose(parents, steps)
        lanes.put(lane, name, parents, steps)
        found.append((lane, before))
    # c begins where b ended (3); d needs a (5): lane 0 is free then and lane 1 at 5.5; e begins at 5.5 in lane 1, and f at 6 in lane 0.
    assert found == [(0, None), (1, None), (1, "b"), (0, "a"), (1, "c"), (0, "d")]
    assert lanes.ended_at == {"a": 5, "b": 3, "c": 5.5, "d": 6, "e": 7.5, "f": 7}
    assert (lanes.free_at, lanes.last) == ([7, 7.5], ["f", "e"])


def test_of_lanes_that_are_free_in_time_for_a_child_the_last_one_to_be_free_is_taken():
    lanes = Lanes(3)
    for name, steps in (("a", 5), ("b", 1), ("c", 4)):
        lanes.put(lanes.choose([], steps)[0], name, [], steps)
    assert lanes.choose(["a"], 1) == (0, "a") and lanes.choose(["c"], 1) == (2, "c") and lanes.choose(["b"], 1) == (1, "b")


def test_lanes_without_a_limit_remember_nothing():
    lanes = Lanes(None)
    assert lanes.choose(["x"], 1) == (None, None)
    lanes.put(None, "a", ["x"], 1)
    assert not lanes.ended_at and lanes.free_at == [] and lanes.last == []
