"""A run folder is trained in by one start at a time."""

import os

import pytest

from codemix_megatron.errors import LaunchError
from codemix_megatron.train.lock import RunLock


def test_a_second_start_is_refused_and_told_who_trains(tmp_path):
    first, second = RunLock(tmp_path / "run"), RunLock(tmp_path / "run", patience=0)
    first.take()
    with pytest.raises(LaunchError, match=f"another start trains in it \\(process {os.getpid()} on ") as refused:
        second.take()
    assert refused.value.exit_code == 2
    first.release()
    second.take()
    second.release()


def test_jobs_under_slurm_are_told_apart_elsewhere(tmp_path, monkeypatch):
    first, second = RunLock(tmp_path), RunLock(tmp_path, patience=0)
    first.take()
    monkeypatch.setenv("CODEMIX_BATCH", "job")
    second.take()
    first.release()
