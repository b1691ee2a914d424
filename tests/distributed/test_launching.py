"""Ranks that are too many, that cannot meet, or that fail: one message, a bounded end."""

import os
import socket
import subprocess
import sys

import pytest
from tiny_run import clean_environment, held_port

pytestmark = pytest.mark.distributed


def test_joins_the_ranks_of_an_existing_torchrun(tiny):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "codemix_megatron", "train", str(tiny.recipe)]
    words += ["--folder", str(tiny.folder / "torchrun"), "parallel.pipeline=2"]
    done = subprocess.run([sys.executable, *words], cwd=tiny.folder, env=clean_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "step 20/20" in done.stdout
    assert len(tiny.losses("torchrun")) == 20


def test_ranks_that_do_not_form_the_layout_are_refused_by_every_rank(tiny):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "codemix_megatron", "train", str(tiny.recipe)]
    words += ["--folder", str(tiny.folder / "three"), "parallel.tensor=2"]
    done = subprocess.run([sys.executable, *words], cwd=tiny.folder, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "3 ranks do not divide into copies of 2 (tensor 2 x pipeline 1); use a multiple of 2" in done.stderr
    assert not (tiny.folder / "three" / "recipe.yaml").exists()


@pytest.mark.parametrize("command", ["train", "plan"])
def test_ranks_over_which_the_batch_does_not_divide_are_refused(tiny, command):
    done = tiny.codemix_here(command, tiny.recipe, "--nproc", 3, *(["--folder", tiny.folder / "thirds"] if command == "train" else []))
    assert done.returncode == 2 and not (tiny.folder / "thirds").exists()
    assert "batch.global_sequences: 8 is not a multiple of micro_sequences 2 x data parallel 3 = 6" in done.stderr


def test_a_rank_that_never_comes_is_waited_for_no_longer_than_the_timeout(tiny):
    lonely = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(held_port())}
    done = tiny.train("lonely", "parallel.data=2", "parallel.timeout_seconds=5", env=lonely, timeout=60)
    assert done.returncode == 1
    assert "rank 0 of 2 could not join the others within 5 s: rank 1 never came" in done.stderr and "Traceback" not in done.stderr


def test_busy_port_is_refused_before_any_rank_starts(tiny):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = tiny.train("busy", "--port", port)
    assert done.returncode == 2
    assert f"--port {port}: address already in use" in done.stderr
    assert not os.path.exists(tiny.folder / "busy" / "recipe.yaml")
