"""The first cause is named, not what it dragged along."""

from codemix_megatron.errors import CheckpointError, RankCrashed
from codemix_megatron.launch.local import note_failure, what_failed


def failure(rank: int, message: str, known: bool, at: float, exit_code: int = 1) -> dict:
    """Return a note as a rank leaves it."""
    return {"rank": rank, "message": message, "known": known, "exit_code": exit_code, "at": at}


def log_of(tmp_path, text: str = ""):
    """Return a log file."""
    path = tmp_path / "ranks.log"
    path.write_text("lines of an earlier start\n" + text)
    return path


def test_a_fault_of_ours_comes_before_connections_that_broke_earlier(tmp_path):
    notes = [failure(3, "RuntimeError: Connection closed by peer", False, 1.0), failure(1, "disk full", True, 2.0, 1)]
    error = what_failed(log_of(tmp_path), notes, 1, 0)
    assert str(error) == "disk full" and error.exit_code == 1


def test_the_users_fault_keeps_its_exit_code(tmp_path):
    assert what_failed(log_of(tmp_path), [failure(0, "no such corpus", True, 1.0, 2)], 1, 0).exit_code == 2


def test_a_killed_rank_is_named_with_its_signal_though_others_complained(tmp_path):
    log = log_of(tmp_path, "E failed (exitcode: -9) local_rank: 2 (pid: 77) of binary\n")
    error = what_failed(log, [failure(0, "RuntimeError: Connection closed by peer", False, 1.0)], 1, 0)
    assert "rank 2 was killed by SIGKILL; run the same command again" in str(error)


def test_only_crashes_in_native_code_are_worth_another_try(tmp_path):
    for number, is_crash in ((11, True), (6, True), (7, True), (9, False), (15, False)):
        error = what_failed(log_of(tmp_path, f"E failed (exitcode: -{number}) local_rank: 2 (pid: 77) of binary\n"), [], 1, 0)
        assert isinstance(error, RankCrashed) == is_crash


def test_an_earlier_starts_output_is_not_blamed(tmp_path):
    log = tmp_path / "ranks.log"
    log.write_text("failed (exitcode: -9) local_rank: 2 (pid: 7)\n")
    start = log.stat().st_size
    with open(log, "a") as handle:
        handle.write("something else went wrong\n")
    assert "something else went wrong" in str(what_failed(log, [], 1, start))


def test_notes_are_left_only_where_somebody_reads_them(tmp_path, monkeypatch):
    monkeypatch.delenv("CODEMIX_NOTES", raising=False)
    note_failure(0, RuntimeError("nobody hears"))
    monkeypatch.setenv("CODEMIX_NOTES", str(tmp_path))
    note_failure(2, CheckpointError("could not be saved"))
    assert [p.name for p in tmp_path.iterdir()] == ["rank-2.json"]
