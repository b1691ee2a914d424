"""A run folder has one trainer at a time, whatever started it, and one that comes too late cannot write."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest
from patience import PATIENCE_SECONDS

from codemix_megatron.errors import LaunchError
from codemix_megatron.watch import lease as leases
from codemix_megatron.watch.lease import Holder, Lease, wait_until_free


@pytest.fixture
def run(tmp_path):
    """A run folder."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def quick(monkeypatch):
    """Leases that are looked at and renewed many times a second."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.02)


def leave(run, holder: Holder, age_seconds: float = 0.0) -> None:
    """Write the lease of another process."""
    path = run / ".lease" / "1"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - age_seconds,) * 2)


ELSEWHERE = Holder("77.0", "node9", 4711, "99", "another machine", "77", 0)


def test_second_start_is_refused_and_told_who_trains(run):
    first = Lease(run)
    first.take()
    with pytest.raises(LaunchError, match=f"another start trains in it \\(process {os.getpid()} on ") as refused:
        Lease(run).take(patience=0)
    assert refused.value.exit_code == 2
    first.release()
    second = Lease(run)
    second.take(patience=0)
    second.release()


def test_start_of_which_the_process_has_ended_is_followed_at_once(run):
    code = "import sys, pathlib; from codemix_megatron.watch.lease import Lease; Lease(pathlib.Path(sys.argv[1])).take(); import os; os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(run)], check=False, timeout=PATIENCE_SECONDS)
    mine = Lease(run)
    mine.take(patience=0)
    assert mine.number == 2
    mine.release()


def test_process_number_that_another_process_has_now_is_no_holder(run):
    leave(run, replace(Holder.here(), began="1"))
    assert wait_until_free(run, patience=0) == 1


def test_start_elsewhere_that_renews_is_refused_by_name_and_job(run, quick):
    leave(run, ELSEWHERE)
    refused = threading.Event()

    def renew() -> None:
        while not refused.wait(0.05):
            os.utime(run / ".lease" / "1")

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        with pytest.raises(LaunchError, match=r"Slurm job 77, process 4711 on node9"):
            wait_until_free(run, patience=0.1)
    finally:
        refused.set()
        renewing.join()


def test_start_elsewhere_that_renews_no_more_is_waited_for_and_followed(run, quick, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.6)
    began = time.monotonic()
    leave(run, ELSEWHERE)
    assert wait_until_free(run, patience=0.1) == 1
    assert time.monotonic() - began > 0.5


def test_earlier_start_of_the_same_job_is_followed_at_once(run, monkeypatch):
    leave(run, ELSEWHERE)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert wait_until_free(run, patience=0) == 1


def test_clocks_of_other_machines_do_not_matter(run, monkeypatch):
    leave(run, ELSEWHERE)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # this machine's clock is decades behind the file system's
    assert not leases.newest_entry(run / ".lease").is_free


def test_of_many_that_come_at_once_one_gets_the_folder(run, quick):
    leave(run, ELSEWHERE, age_seconds=99)
    taken, refused = [], []

    def come() -> None:
        mine = Lease(run, on_loss=refused.append)
        try:
            mine.take(patience=0)
            taken.append(mine)
        except LaunchError:
            refused.append("refused")

    comers = [threading.Thread(target=come) for _ in range(8)]
    for comer in comers:
        comer.start()
    for comer in comers:
        comer.join(PATIENCE_SECONDS)
    assert len(taken) == 1 and refused == ["refused"] * 7
    taken[0].release()


def test_late_holder_is_told_and_may_not_write(run, quick):
    told = []
    late = Lease(run, on_loss=told.append)
    late.take()
    late.check()
    (run / ".lease" / "2").write_text(json.dumps(asdict(ELSEWHERE)))  # taken over while it stood still
    with pytest.raises(LaunchError, match="another start has taken this run over; this one ends and writes no more"):
        late.check()
    late.thread.join(PATIENCE_SECONDS)
    assert "another start has taken this run over" in told[0]


def test_holder_that_cannot_renew_ends_before_anybody_may_take_over(run, quick, monkeypatch):
    now, told = [0.0], []
    monkeypatch.setattr(leases, "ticks", lambda: now[0])
    monkeypatch.setattr(os, "utime", lambda *words: (_ for _ in ()).throw(OSError("no such host")))
    mine = Lease(run, on_loss=told.append)
    mine.take()
    now[0] = 0.7 * leases.LEASE_SECONDS
    mine.check()
    now[0] = 0.9 * leases.LEASE_SECONDS
    mine.thread.join(PATIENCE_SECONDS)
    assert "could not be renewed" in told[0]


def test_lease_of_which_nothing_is_written_yet_counts(run):
    (run / ".lease").mkdir()
    (run / ".lease" / "1").touch()
    assert not leases.newest_entry(run / ".lease").is_free
