"""Before a model is built all nodes are compared; what differs is named on every rank, with the node."""

import os
import re
import shutil
import subprocess

import pytest
from tiny_run import clean_environment
from two_nodes import finish, start_two_nodes

pytestmark = pytest.mark.distributed
TWO = ["parallel.data=2"]

CLOCK = """
import os, time
true = time.time
time.time = lambda: true() + 60
"""


def test_nodes_that_are_alike_train_and_their_figures_are_in_the_journal(tiny, measured):
    short = ["phases.0.tokens=1024", "phases.1.tokens=512", "parallel.preflight=strict"]
    ended = finish(start_two_nodes(tiny, [*TWO, *short, "--folder", tiny.folder / "alike"]))
    assert [code for code, _, _ in ended] == [0, 0], ended
    (event,) = tiny.events("alike", "preflight")
    assert event["nodes"] == event["ranks"] == 2 and event["device"] == "cpu" and event["clock_seconds"] < 1
    assert set(event["bytes_per_second_between"]) == {"node0", "node1"} and min(event["bytes_per_second_between"].values()) > 1e6
    assert not list((tiny.folder / "alike" / "logs").glob("preflight*"))
    measured(f"preflight of two nodes, CPU: {event['seconds']:.2f} s")


def test_everything_that_differs_on_a_node_is_named_by_all_ranks(tiny, tmp_path):
    """On the second node: another megatron-core, a corpus cut short, a clock that is wrong, and a run folder of its own."""
    run, corpora = tiny.folder / "unlike", tiny.folder / "corpora"
    run.mkdir()
    (tmp_path / "run").mkdir()
    shutil.copytree(corpora, tmp_path / "corpora")
    os.truncate(tmp_path / "corpora" / "prose.bin", 1000)
    (tmp_path / "megatron_core-0.1.2.dist-info").mkdir()
    (tmp_path / "megatron_core-0.1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: megatron-core\nVersion: 0.1.2\n")
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    mounts = f"mount --rbind {tmp_path / 'run'} {run} && mount --rbind {tmp_path / 'corpora'} {corpora}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mounts], capture_output=True).returncode:
        pytest.skip("needs the right to mount folders in a namespace of its own")
    before = ["unshare", "-rm", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    path = os.pathsep.join([str(tmp_path), clean_environment()["PYTHONPATH"]])
    ranks = start_two_nodes(tiny, [*TWO, "parallel.preflight=strict", "--folder", run], before, {"PYTHONPATH": path})
    ended = finish(ranks)
    assert [code for code, _, _ in ended] == [1, 1], ended
    message, size = ended[0][2], (corpora / "prose.bin").stat().st_size
    # a fifth where another process slows what the two exchange
    assert "Traceback" not in message and re.search("codemix train: error: nodes differ: [45] faults", message), message
    assert "node1 (rank 1): megatron-core 0.1.2, node0 (rank 0): " in message and "install the same on every node" in message
    assert f"node1 (rank 1): {corpora}/prose.bin 1000 bytes, node0 (rank 0): {size} bytes; mount the same file on every node" in message
    assert "node1 (rank 1): its clock is 60 s ahead of node0 (rank 0)'s, at most 5 s are allowed" in message
    assert "node1 (rank 1): the run folder: what another node wrote into it is not seen" in message
    assert "rank 1 on node1" in ended[1][2] and re.search("nodes differ: [45] faults", ended[1][2])
    assert not (run / "recipe.yaml").exists() and not list((run / "logs").glob("preflight*"))
