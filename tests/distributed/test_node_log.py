"""Ranks of one node in one file: every line behind its rank, native code's last words too, and the file has a bound."""

import os
import re
import socket
import subprocess
import sys
import time

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment

from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.node_log import SETTING, SIZE, NodeLog, merges_output, node_log_path
from codemix_megatron.watch.rank_log import rank_log_path

RANK = """
import faulthandler, os, sys, time
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.rank_log import lead_output
run, rank = RunFolder(sys.argv[1]), int(os.environ["RANK"])
lead_output(run)
for number in range(200):
    print(f"line {number} of rank {rank}, said by Python")
    os.write(1, b"line %d of rank %d, said by native code\\n" % (number, rank))
os.write(2, b"half a line")
told = run.path / "rank-0-said-all"
if rank == 0:
    told.touch()
deadline = time.monotonic() + 200
while not told.exists() and time.monotonic() < deadline:  # torchrun ends rank 0 when rank 1 is gone, wherever it is
    time.sleep(0.02)
if rank == 1:
    os.abort()
"""
LAST_WORDS = ("Aborted", "[0] half a line\n")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What two ranks of a real torchrun said, one of which was aborted: the lines of the node's file, and the run."""
    folder = tmp_path_factory.mktemp("merged")
    (folder / "rank.py").write_text(RANK)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(folder / "rank.py")]
    environment = {**clean_environment(), SETTING: "node"}
    subprocess.run([*words, str(folder / "run")], env=environment, capture_output=True, timeout=PATIENCE_SECONDS)
    run = RunFolder(folder / "run")
    path = node_log_path(run, socket.gethostname())
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(words in path.read_text() for words in LAST_WORDS) and time.monotonic() < deadline:
        time.sleep(0.1)
    return path.read_text().splitlines(), run


def test_every_line_stands_behind_its_rank_and_none_is_torn(said):
    lines, run = said
    assert all(re.match(r"\[[01]\] ", line) for line in lines)
    for rank in (0, 1):
        own = [line for line in lines if line.startswith(f"[{rank}] ")]
        for number in range(200):
            assert any(line.endswith(f"Z line {number} of rank {rank}, said by Python") for line in own)
            assert f"[{rank}] line {number} of rank {rank}, said by native code" in own
    assert [path.name for path in run.logs.glob("rank-*.log")] == []


def test_last_words_of_native_code_are_there(said):
    lines, _ = said
    assert any(line.startswith("[1] ") and "Fatal Python error: Aborted" in line for line in lines)
    assert "[0] half a line" in lines  # not ended by its rank, which left


def test_collecting_process_leaves_with_its_ranks(said):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(str(said[1]) in words for words in command_lines()):
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.2)


def command_lines() -> list[str]:
    """Return the command lines of all processes that collect output."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline") as handle:
                    found.append(handle.read())
            except OSError:
                continue
    return [line for line in found if "watch.node_log" in line]


def test_file_is_bounded(tmp_path):
    log = NodeLog(tmp_path / "node-a.log", most_bytes=1000)
    for number in range(300):
        log.write("7", b"%04d" % number)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"node-a.log", "node-a.log.1"} and max(sizes.values()) <= 1000
    assert (tmp_path / "node-a.log").read_text().endswith("[7] 0299\n")


@pytest.mark.parametrize(
    ("size", "setting", "is_merged"), [("8192", None, True), ("8", None, False), ("8", "node", True), ("8192", "rank", False)]
)
def test_many_ranks_share_a_file_unless_told_otherwise(monkeypatch, size, setting, is_merged):
    for name in ("SLURM_PROCID", SETTING, SIZE):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", size), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "8"), (SETTING, setting)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert merges_output() == is_merged


def test_rank_is_looked_for_where_it_wrote_last(tmp_path):
    run = RunFolder(tmp_path)
    run.logs.mkdir()
    assert rank_log_path(run, 3, "a").name == "rank-3.log"
    node_log_path(run, "a").touch()
    assert rank_log_path(run, 3, "a").name == "node-a.log" and rank_log_path(run, 3).name == "rank-3.log"
