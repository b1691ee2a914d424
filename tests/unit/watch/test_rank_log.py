"""What a rank says is in its own file, each line with its moment, up to the last one before it dies."""

import os
import re
import subprocess
import sys

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment

from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.failures import first_failure

MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
RANK = """
import ctypes, os, sys
from codemix_megatron.watch.rank import as_rank
from codemix_megatron.records.run_folder import RunFolder

def life():
{body}

as_rank(RunFolder({run!r}), life)
"""


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def live(run, rank: int, *body: str, **more) -> subprocess.CompletedProcess:
    """Run a rank whose whole life is `body`, as srun would start it."""
    code = RANK.format(body="\n".join(f"    {line}" for line in body), run=str(run))
    variables = {"RANK": str(rank), "WORLD_SIZE": "8", "SLURM_JOB_ID": "77", "SLURMD_NODENAME": f"node{rank}", **more}
    environment = {k: v for k, v in clean_environment().items() if not k.startswith("CODEMIX_")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**environment, **variables}, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


def test_lines_of_all_starts_have_moments_and_each_start_says_where_it_ran(run):
    live(run, 1, "print('two', 'words')", "print('a line\\nand one more', file=sys.stderr)", "print('cut', end='')")
    live(run, 1, "print('again')", SLURM_RESTART_COUNT="1")
    lines = (run.logs / "rank-1.log").read_text().splitlines()
    assert all(re.match(MOMENT, line) for line in lines)
    said = [line.split(" ", 1)[1] for line in lines]
    assert said[1:5] == ["two words", "a line", "and one more", "cut"] and said[6] == "again"
    assert re.match(r"start 77\.0: rank 1 on node1, pid \d+: ", said[0]) and said[5].startswith("start 77.1: rank 1 on node1")


def test_last_words_of_native_code_are_kept(run):
    done = live(run, 1, "print('before')", "os.write(2, b'what(): terminate\\n')", "ctypes.string_at(0)")
    assert done.returncode < 0
    text = (run.logs / "rank-1.log").read_text()
    assert re.search(MOMENT + "before\n", text) and "what(): terminate" in text and "Fatal Python error: Segmentation fault" in text
    assert done.stdout == "" and done.stderr == ""


def test_main_ranks_lines_also_go_where_they_went_before(run):
    done = live(run, 0, "print('step 1')", "print('warning', file=sys.stderr)")
    assert (done.stdout, done.stderr) == ("step 1\n", "warning\n")
    assert re.search(MOMENT + "step 1\n", (run.logs / "rank-0.log").read_text())


def test_what_only_another_rank_knows_is_one_line_outside_and_a_traceback_in_its_file(run):
    done = live(run, 3, "raise KeyError('no such shard')")
    assert done.returncode == 1
    said = r"codemix: rank 3 on node3, codemix_megatron/watch/rank\.py:\d+: KeyError: 'no such shard'\n"
    assert re.fullmatch(said, done.stderr)
    assert "Traceback" in (run.logs / "rank-3.log").read_text()
    assert first_failure(run, "77.0").message == "KeyError: 'no such shard'"


def test_rank_that_lost_another_one_says_nothing_outside(run):
    done = live(run, 3, "raise RuntimeError('Connection closed by peer')")
    assert done.stderr == "" and "lost another rank, which left no word" in first_failure(run, "77.0").sentence
    assert "RuntimeError: Connection closed by peer" in (run.logs / "rank-3.log").read_text()


def test_main_rank_that_lost_another_one_says_it_without_the_stack_that_is_in_its_file(run):
    done = live(run, 0, "raise RuntimeError('Connection closed by peer')")
    assert "rank 0 on node0" in done.stderr and "lost another rank; see" in done.stderr and ", in life" not in done.stderr
    assert "in life" in (run.logs / "rank-0.log").read_text()


def test_full_disk_does_not_end_a_rank(run):
    run.logs.mkdir(parents=True)
    os.symlink("/dev/full", run.logs / "rank-1.log")
    done = live(run, 1, "print('nobody reads this')", "print('nor this')")
    assert done.returncode == 0, done.stderr
