"""Corpora made by an array of tasks, one of which is killed, are those of one process, byte for byte."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS

# Parts of 4 kB, so that each task has some; task 2 stands still until it is killed, the first time.
SMALL_PARTS = """#!/bin/sh
shift 2
exec {python} -c '
import os, sys, time
from codemix_megatron.cli.main import main
from codemix_megatron.corpus import parts
parts.PART_BYTES = 4096
if sys.argv[-1] == "2/4" and not os.path.exists("{marker}"):
    open("{marker}", "w").close()
    time.sleep(300)
sys.exit(main())
' "$@"
"""


@pytest.fixture(scope="module")
def prepared(launcher, cluster, tiny, tmp_path_factory):
    """The folder of corpora that an array made, and the jobs' ids."""
    folder = tmp_path_factory.mktemp("array")
    for name in ("recipe.yaml", "prose.jsonl", "snippets.jsonl"):
        shutil.copy(tiny.folder / name, folder / name)
    marker, python = folder / "task-2", folder / "python"
    python.write_text(SMALL_PARTS.format(python=launcher.python, marker=marker))
    python.chmod(0o755)
    words = [
        "--prepare",
        folder / "recipe.yaml",
        "--site",
        launcher.site_file(python=str(python)),
        "--tasks",
        4,
        "--folder",
        folder / "run",
    ]
    done = launcher.launch(*words)
    assert done.returncode == 0, done.stderr
    again = launcher.launch(*words)
    assert again.returncode == 2 and "works on it already" in again.stderr
    jobs = [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("job ")]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not marker.exists():
        assert time.monotonic() < deadline, "task 2 did not start"
        time.sleep(0.1)
    kill_shard("2/4")
    fields = cluster.wait_for_job(jobs[-1])
    return {"folder": folder, "merge": fields, "log": "".join(p.read_text() for p in (folder / "run" / "launch").glob("*.log"))}


def kill_shard(shard: str) -> None:
    """Kill the interpreter that does a shard; srun and the batch script have the same words among theirs."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0") if entry.name.isdigit() else []
            if words[-2:-1] == [shard] and words[1:2] == ["-c"]:
                os.kill(int(entry.name), signal.SIGKILL)


def test_killed_task_of_an_array_is_queued_again_and_the_corpora_are_those_of_one_process(prepared, tiny):
    assert prepared["merge"]["JobState"] == "COMPLETED", prepared["log"]
    assert "exit code 137, 1 of 3 failures; queued again" in prepared["log"]
    files = sorted(p.name for p in (tiny.folder / "corpora").iterdir() if p.suffix in (".bin", ".idx", ".npy"))
    assert len(files) >= 4
    for name in files:
        assert (prepared["folder"] / "corpora" / name).read_bytes() == (tiny.folder / "corpora" / name).read_bytes(), name


@pytest.mark.slow
def test_task_that_may_not_be_queued_again_is_followed_by_one_that_goes_on(launcher, cluster, tiny, tmp_path_factory):
    """The merge waits for both, and the corpora are the same."""
    folder = tmp_path_factory.mktemp("barred")
    for name in ("recipe.yaml", "prose.jsonl", "snippets.jsonl"):
        shutil.copy(tiny.folder / name, folder / name)
    marker, python = folder / "task-2", folder / "python"
    python.write_text(SMALL_PARTS.format(python=launcher.python, marker=marker))
    python.chmod(0o755)
    site = launcher.site_file(python=str(python), sbatch=["--no-requeue"])
    done = launcher.launch("--prepare", folder / "recipe.yaml", "--site", site, "--tasks", 4, "--folder", folder / "run")
    assert done.returncode == 0, done.stderr
    merge = [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("job ")][-1]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not marker.exists():
        assert time.monotonic() < deadline, "task 2 did not start"
        time.sleep(0.1)
    kill_shard("2/4")
    fields = cluster.wait_for_job(merge)
    log = "".join(path.read_text() for path in (folder / "run" / "launch").glob("*.log"))
    assert fields["JobState"] == "COMPLETED", log
    assert "exit code 137, 1 of 3 failures; not queued again (it was submitted with --no-requeue): job " in log
    for name in (p.name for p in (tiny.folder / "corpora").iterdir() if p.suffix in (".bin", ".idx", ".npy")):
        assert (folder / "corpora" / name).read_bytes() == (tiny.folder / "corpora" / name).read_bytes(), name
