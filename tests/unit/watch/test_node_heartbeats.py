"""Of each node one file reaches the shared disk, whichever of its first two ranks is alive."""

import json
from dataclasses import asdict, replace

import pytest

from codemix_megatron.watch import node_heartbeats
from codemix_megatron.watch.heartbeat import Heartbeat, Watch, read_heartbeats
from codemix_megatron.watch.node_heartbeats import NodeSummary


@pytest.fixture
def folders(tmp_path):
    """A folder of one node with four ranks' heartbeats, and the one all nodes see."""
    local, shared = tmp_path / "local", tmp_path / "shared"
    local.mkdir()
    shared.mkdir()
    for rank in range(8, 12):
        write(local, Heartbeat(rank, 16, "node2", 100 + rank, "stacks", 1.0, 10.0, count=5, ticks=7))
    return local, shared


def write(local, heartbeat: Heartbeat) -> None:
    (local / f"heart-{heartbeat.rank}.json").write_text(json.dumps(asdict(heartbeat)))


def summary(folders, is_first: bool) -> NodeSummary:
    """Return one that writes only when told to."""
    made = NodeSummary(*folders, is_first, seconds=60.0)
    made.ended.set()
    return made


def test_first_rank_writes_one_file_of_all_ranks_of_its_node(folders):
    summary(folders, is_first=True).sum_up()
    assert len(list(folders[1].iterdir())) == 1
    assert [(heartbeat.rank, heartbeat.count, heartbeat.tick_seconds) for heartbeat in read_heartbeats(folders[1])] == [
        (rank, 5, 60.0) for rank in range(8, 12)
    ]


def test_second_rank_writes_while_the_first_one_stands_still_and_that_is_the_one_to_be_named(folders, monkeypatch):
    local, shared = folders
    clock = [100.0]
    monkeypatch.setattr(node_heartbeats.time, "monotonic", lambda: clock[0])
    second, watch = summary(folders, is_first=False), Watch(shared)
    second.sum_up()
    assert not list(shared.iterdir())
    found = None
    for moment in range(0, 1000, 10):
        clock[0] += 10
        for rank in (9, 10, 11):  # their threads go on; their main threads wait for rank 8
            write(local, Heartbeat(rank, 16, "node2", 100 + rank, "stacks", 1.0, 10.0, count=5, ticks=100 + moment))
        second.sum_up()
        if found := watch.find_hang(float(moment)):
            break
    assert "rank 8 of 16 (node2): not running any more" in found


def test_last_words_of_ranks_that_are_done_are_summed_up_and_nothing_is_left(folders):
    local, shared = folders
    first = summary(folders, is_first=True)
    for heartbeat in read_heartbeats(local):
        write(local, replace(heartbeat, is_done=True))
    first.stop()
    assert all(heartbeat.is_done for heartbeat in read_heartbeats(shared)) and not local.exists()


@pytest.mark.parametrize(("nodes", "most_per_second"), [(1, 1), (50, 11), (1024, 21), (4096, 21)])
def test_all_nodes_together_write_no_more_than_a_shared_disk_bears(nodes, most_per_second):
    assert nodes / node_heartbeats.summary_seconds(nodes, 5.0) <= most_per_second
