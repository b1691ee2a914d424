"""Ranks that are too many, that cannot meet, or that fail: one message, a bounded end."""

import os
import socket
import subprocess
import sys

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment, held_port

pytestmark = pytest.mark.distributed


def test_joins_the_ranks_of_an_existing_torchrun(tiny):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "codemix_megatron", "train", str(tiny.recipe)]
    words += ["--folder", str(tiny.folder / "torchrun"), "parallel.pipeline=2"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tiny.folder, env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "step 20/20" in done.stdout
    assert len(tiny.losses("torchrun")) == 20


def test_ranks_that_do_not_form_the_layout_are_refused_by_every_rank(tiny):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "codemix_megatron", "train", str(tiny.recipe)]
    words += ["--folder", str(tiny.folder / "three"), "parallel.tensor=2"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tiny.folder, env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
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
    done = tiny.train("lonely", "parallel.data=2", "parallel.timeout_seconds=5", env=lonely, timeout=PATIENCE_SECONDS)
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


def test_processes_of_mpirun_are_ranks_of_one_training(tiny):
    """Each with the variables Open MPI sets; they meet without MASTER_ADDR."""
    words = [
        sys.executable,
        "-m",
        "codemix_megatron",
        "train",
        str(tiny.recipe),
        "--folder",
        str(tiny.folder / "mpirun"),
        "parallel.tensor=2",
    ]
    shared = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_NAMESPACE": f"{os.getpid()}"}
    ranks = [
        subprocess.Popen(
            words,
            cwd=tiny.folder,
            env={**clean_environment(), **shared, "OMPI_COMM_WORLD_RANK": str(n), "OMPI_COMM_WORLD_LOCAL_RANK": str(n)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for n in range(2)
    ]
    said = [rank.communicate(timeout=PATIENCE_SECONDS)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert [event["ranks"] for event in tiny.events("mpirun", "start")] == [2] and len(tiny.losses("mpirun")) == 20


def test_ranks_to_start_are_refused_in_a_process_that_is_a_rank_itself(tiny, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    done = tiny.codemix_here("train", tiny.recipe, "--nproc", 2)
    assert done.returncode == 2 and "--nproc 2: this is rank 0 of 1 (torchrun); leave --nproc out" in done.stderr


def test_hard_limit_of_open_files_is_told_before_ranks_lose_each_other(tiny):
    code = """
import resource
from codemix_megatron.errors import LaunchError
from codemix_megatron.parallel.limits import raise_limits
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1024))
raise_limits(100)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
try:
    raise_limits(2000)
except LaunchError as fault:
    print(fault)
"""
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    soft, said = done.stdout.splitlines()
    assert soft == "612" and "at most 1024 open files are allowed (ulimit -Hn), and 2000 ranks need 2512" in said, done.stderr
