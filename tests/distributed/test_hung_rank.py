"""A rank that is alive and stuck is named with where it stands; nothing waits for it for ever."""

import os
import signal
import subprocess
import sys

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment, held_port, ranks_of

pytestmark = pytest.mark.distributed
WATCHED = ["parallel.data=2", "parallel.heartbeat_seconds=5", "parallel.timeout_seconds=90"]

# Python imports this module by itself at its start: in rank 1, getting the batch of step 6 never ends.
ENDLESS = """
import importlib.abc, importlib.machinery, os, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "codemix_megatron.train.batches":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            at = module.Batches.at

            def endless(self, first):
                is_stuck = os.environ.get("RANK") == "1" and first >= 5 * 8
                while is_stuck:
                    pass
                return at(self, first)

            module.Batches.at = endless

        spec.loader.exec_module = execute_and_change
        return spec

sys.meta_path.insert(0, Finder())
"""


def test_rank_in_an_endless_loop_is_named_with_its_line_and_stacks_of_all_are_kept(tiny, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ENDLESS)
    path = os.pathsep.join([str(tmp_path), clean_environment()["PYTHONPATH"]])
    done = tiny.train(
        "endless",
        *WATCHED,
        env={"PYTHONPATH": path},
    )
    assert done.returncode == 1
    assert "rank 1 of 2" in done.stderr and "stuck since" in done.stderr and "in step 6, getting the batch" in done.stderr
    assert "sitecustomize.py" in done.stderr and "in endless" in done.stderr and "Traceback" not in done.stderr
    assert tiny.events("endless")[-1]["step"] == 5 and not ranks_of(tiny.folder / "endless")
    stacks = [(tiny.folder / "endless" / "logs" / f"stacks-rank-{rank}.txt").read_text() for rank in range(2)]
    assert "in endless" in stacks[1] and "in train_step" in stacks[0]


def test_stopped_process_is_named_by_another_rank_where_nobody_launched_them(tiny):
    """As under srun or a bare torchrun, where there is no launching process of ours to watch."""
    run, port = tiny.folder / "frozen", held_port()
    words = [sys.executable, "-m", "codemix_megatron", "train", str(tiny.recipe), "--folder", str(run), *WATCHED]
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            words,
            cwd=tiny.folder,
            env={**clean_environment(), **variables, "RANK": str(n), "LOCAL_RANK": str(n)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    tiny.wait_for_step("frozen", 4)
    ranks[1].send_signal(signal.SIGSTOP)
    try:
        _, errors = ranks[0].communicate(timeout=PATIENCE_SECONDS)
    finally:
        ranks[1].kill()  # here nobody else does; srun and torchrun do
        ranks[1].communicate(timeout=PATIENCE_SECONDS)
    assert ranks[0].returncode == 1
    assert "rank 1 of 2" in errors and "not running any more (stopped, or its machine is gone)" in errors and "Traceback" not in errors
