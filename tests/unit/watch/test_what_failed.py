"""The first cause is named, not what it dragged along."""

import json
from dataclasses import asdict

import pytest

from codemix_megatron.errors import CheckpointError, LaunchError, RankCrashed, RecipeError
from codemix_megatron.launch.local import what_failed
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.failures import Failure, first_failure, note_failure

LOST = "RuntimeError: Connection closed by peer [10.0.0.7]:2011"


def failure(rank: int, message: str, known: bool, at: float, exit_code: int = 1, **more) -> Failure:
    """Return what a rank leaves."""
    return Failure(rank, f"node{rank}", message, "codemix_megatron/train/run.py:1", known, exit_code, at, **more)


@pytest.fixture
def run(tmp_path):
    """A run folder with the log of an earlier start."""
    run = RunFolder(tmp_path / "run")
    (run.logs / "failures").mkdir(parents=True)
    (run.logs / "ranks.log").write_text("lines of an earlier start\n")
    return run


def leave(run, *failures: Failure, start: str = "77.0") -> None:
    """Write failures as their ranks do."""
    for one in failures:
        (run.logs / "failures" / f"{start}-rank-{one.rank}.json").write_text(json.dumps(asdict(one)))


def log(run, text: str) -> None:
    """Append to the launcher's output."""
    with open(run.logs / "ranks.log", "a") as handle:
        handle.write(text)


def test_a_fault_of_ours_comes_before_connections_that_broke_earlier(run):
    leave(run, failure(3, LOST, False, 1.0), failure(1, "disk full", True, 2.0))
    assert first_failure(run, "77.0").rank == 1
    error = what_failed(run, first_failure(run, "77.0"), 1, 0)
    assert str(error) == "disk full (rank 1 on node1, codemix_megatron/train/run.py:1)" and error.exit_code == 1


def test_a_bug_on_one_rank_comes_before_words_of_ours_that_it_never_came(run):
    never = failure(0, "rank 0 of 2 could not join the others within 5 s: timeout", True, 1.0)
    leave(run, never, failure(1, "AttributeError: no such thing", False, 9.0))
    assert first_failure(run, "77.0").sentence == "rank 1 on node1, codemix_megatron/train/run.py:1: AttributeError: no such thing"


def test_the_rank_that_found_a_fault_comes_before_those_it_was_told_to(run):
    leave(run, failure(0, "no such folder", True, 2.0), failure(1, "no such folder", True, 1.0, carried=True))
    assert first_failure(run, "77.0").rank == 0


def test_only_failures_of_that_start_count(run):
    leave(run, failure(0, "of the first start", True, 1.0), start="77.0")
    assert first_failure(run, "77.1") is None and first_failure(run, "77.0") is not None


def test_the_users_fault_keeps_its_exit_code_and_names_no_rank(run):
    error = what_failed(run, failure(0, "no such corpus", True, 1.0, 2), 1, 0)
    assert error.exit_code == 2 and str(error) == "no such corpus"


def test_a_killed_rank_is_named_with_its_signal_though_others_complained(run):
    log(run, "E failed (exitcode: -9) local_rank: 2 (pid: 77) of binary\n")
    error = what_failed(run, failure(0, LOST, False, 1.0), 1, 0)
    assert "rank 2 was killed by SIGKILL; run the same command again" in str(error) and "logs/rank-2.log" in str(error)


def test_only_crashes_in_native_code_are_worth_another_try(run):
    for number, is_crash in ((11, True), (6, True), (7, True), (9, False), (15, False)):
        start = (run.logs / "ranks.log").stat().st_size
        log(run, f"E failed (exitcode: -{number}) local_rank: 2 (pid: 77) of binary\n")
        assert isinstance(what_failed(run, None, 1, start), RankCrashed) == is_crash


def test_an_earlier_starts_output_is_not_blamed(run):
    log(run, "failed (exitcode: -9) local_rank: 2 (pid: 7)\n")
    start = (run.logs / "ranks.log").stat().st_size
    log(run, "something else went wrong\n")
    assert "something else went wrong" in str(what_failed(run, None, 1, start))


def test_failure_says_rank_node_and_our_line_that_led_to_it(run, monkeypatch):
    for name, value in {
        "SLURM_JOB_ID": "77",
        "SLURM_RESTART_COUNT": "2",
        "SLURMD_NODENAME": "node7",
        "RANK": "5",
        "WORLD_SIZE": "8",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CODEMIX_FOLLOWED", raising=False)
    with pytest.raises(RecipeError) as caught:
        read_recipe(run.path / "nowhere.yaml")
    note_failure(run, caught.value)
    found = first_failure(run, "77.2")
    assert (found.rank, found.host, found.known, found.exit_code) == (5, "node7", True, 2)
    assert found.where.startswith("codemix_megatron/recipe/reading.py:")


def test_failure_goes_to_the_launching_process_where_the_runs_disk_takes_nothing(run, tmp_path, monkeypatch):
    (run.logs / "failures").rmdir()
    (run.logs / "failures").write_text("no folder can be made here")
    monkeypatch.setenv("CODEMIX_FOLLOWED", "here")
    note_failure(run, LaunchError("nobody hears"))
    assert first_failure(run, "here", tmp_path / "notes") is None
    monkeypatch.setenv("CODEMIX_NOTES", str(tmp_path / "notes"))
    note_failure(run, CheckpointError("could not be saved"))
    assert first_failure(run, "here", tmp_path / "notes").message == "could not be saved"


@pytest.mark.parametrize(
    ("message", "is_secondary"),
    [
        ("DistBackendError: NCCL error in: NCCLUtils.cpp:93, unhandled cuda error (run with NCCL_DEBUG=INFO for details)", False),
        ("DistBackendError: ncclUnhandledCudaError: Call to CUDA function failed.", False),
        ("DistBackendError: NCCL error, ncclInvalidUsage: This usually reflects invalid usage of NCCL library.", False),
        ("DistBackendError: ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.", True),
        ("DistBackendError: NCCL communicator was aborted on rank 3.", True),
        ("DistBackendError: [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7) ran for 600000 ms", True),
        (LOST, True),
    ],
)
def test_a_fault_that_nccl_finds_on_its_own_rank_is_that_ranks(message, is_secondary):
    assert failure(1, message, False, 1.0).is_secondary is is_secondary
