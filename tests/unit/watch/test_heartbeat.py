"""Which rank is named when ranks stop making progress, judged from heartbeat files as ranks write them."""

import json
from dataclasses import asdict

import pytest

from codemix_megatron.watch.heartbeat import Heartbeat, Watch

TICK, PATIENCE = 0.5, 5.0
OVERDUE = PATIENCE + 4 * TICK + 1
GLOO = 'Timeout (0:00:05)!\nThread 0x1 (most recent call first):\n  File "/env/torch/distributed/distributed_c10d.py", line 1 in wait\n'
LOOP = 'Timeout (0:00:05)!\nThread 0x1 (most recent call first):\n  File "/data/reader.py", line 8 in endless\n'


class Ranks:
    """Writes the files of two ranks and looks at them as a launching process does."""

    def __init__(self, folder):
        self.folder, self.watch = folder, Watch(folder)
        self.began, self.ticks = self.watch.looked_at, 0

    def write(self, rank: int, count: int, where: str, patience: float = PATIENCE, **more) -> None:
        """Replace the file of one rank."""
        stacks = str(self.folder / f"stacks-rank-{rank}.txt")
        heartbeat = Heartbeat(rank, 2, "node", 1, stacks, TICK, patience, where, count, ticks=self.ticks, **more)
        (self.folder / f"heart-{rank}.json").write_text(json.dumps(asdict(heartbeat)))

    def live(self, seconds: float, *alive: tuple) -> str | None:
        """Let time pass while these ranks write their files at each tick; return the first verdict."""
        for _ in range(round(seconds / TICK)):
            self.ticks += 1
            for rank in alive:
                self.write(*rank)
            if verdict := self.watch.find_hang(self.began + self.ticks * TICK):
                return verdict
        return None


@pytest.fixture
def ranks(tmp_path):
    return Ranks(tmp_path)


def test_rank_behind_is_named_though_its_file_came_later_and_the_other_was_overdue_first(ranks):
    ahead, behind = (0, 13, "step 6, forward"), (1, 12, "step 6, getting the batch")
    assert ranks.live(2 * TICK, ahead, (1, 11, "step 5, forward")) is None
    assert ranks.live(OVERDUE - TICK, ahead, behind) is None, "no verdict before the rank behind is overdue itself"
    verdict = ranks.live(4 * TICK, ahead, behind)
    assert verdict.startswith("rank 1 of 2 (node): stuck since") and "step 6, getting the batch" in verdict


def test_stopped_rank_is_named_whatever_patience_its_last_file_announced(ranks):
    assert ranks.live(2 * TICK, (0, 2, "step 1"), (1, 1, "starting", 600.0)) is None
    verdict = ranks.live(OVERDUE + 2 * TICK, (0, 4, "step 2, forward"))
    assert verdict.startswith("rank 1 of 2 (node): not running any more") and "in starting" in verdict


def test_rank_that_waits_for_one_in_a_slow_save_is_no_hang(ranks):
    ahead, saving = (0, 21, "step 11, forward"), (1, 20, "the save of step 10", 60.0)
    assert ranks.live(50, ahead, saving) is None
    assert ranks.live(20, ahead, saving).startswith("rank 1 of 2 (node): stuck since")


def test_of_ranks_at_the_same_beat_the_one_that_waits_for_nobody_is_named(ranks):
    for rank, stacks in enumerate((GLOO, LOOP)):
        (ranks.folder / f"stacks-rank-{rank}.txt").write_text(stacks)
    verdict = ranks.live(2 * OVERDUE, (0, 12, "step 6, forward"), (1, 12, "step 6, forward"))
    assert verdict.startswith("rank 1 of 2 (node): stuck since") and "at /data/reader.py:8 in endless" in verdict


def test_rank_that_is_done_holds_up_nobody(ranks):
    ranks.write(1, 9, "the end of a save", is_done=True)
    verdict = ranks.live(2 * OVERDUE, (0, 12, "step 6, forward"))
    assert verdict.startswith("rank 0 of 2 (node): stuck since")
