"""The starts of a job: which came further, which node is blamed, where ranks meet."""

from pathlib import Path

import pytest

from codemix_megatron.launch.slurm.attempts import AttemptBegan, AttemptEnded, Attempts, checkpoint_step
from codemix_megatron.launch.slurm.bad_nodes import lost_node, node_at_fault, nodes_to_exclude, nodes_to_restart_on
from codemix_megatron.launch.slurm.failed_rank import FailedRank, first_failed_rank
from codemix_megatron.launch.slurm.failed_task import first_failed_task
from codemix_megatron.launch.slurm.rendezvous import hold_port
from codemix_megatron.records.atomic import write_json
from codemix_megatron.records.events import CheckpointEvent, StepEvent
from codemix_megatron.records.journal import Journal
from codemix_megatron.records.run_folder import RunFolder

STATES = {"a": "allocated", "b": "mixed", "c": "idle", "d": "down*"}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A folder whose journal records a checkpoint of step 8."""
    folder = RunFolder(tmp_path)
    journal = Journal(folder.journal)
    journal.append(StepEvent.from_json({"step": 9}))
    journal.append(CheckpointEvent.from_json({"step": 8}))
    journal.close()
    return folder


def begin(run: RunFolder, start: str, step: int) -> Attempts:
    attempts = Attempts.of(run)
    attempts.add(AttemptBegan(start=start, job=start.split(".")[0], nodes=["a", "b"], master="a:1", checkpoint_step=step, at=""))
    return attempts


def test_starts_without_progress_are_those_since_the_newest_checkpoint(run):
    for start, step in (("7.0", 0), ("7.1", 0), ("7.2", 8), ("7.3", 8)):
        attempts = begin(run, start, step)
    assert checkpoint_step(run) == 8
    assert attempts.without_progress("7", 8) == 2
    assert attempts.without_progress("7", 9) == 0


def test_checkpoint_that_turned_out_torn_is_no_progress(run):
    begin(run, "7.0", 0)
    assert begin(run, "7.1", 8).without_progress("7", 0) == 2


def test_starts_of_an_earlier_job_do_not_count(run):
    begin(run, "7.0", 8)
    assert begin(run, "8.0", 8).without_progress("8", 8) == 1


def test_start_whose_node_lost_power_has_no_end(run):
    attempts = begin(run, "7.0", 0)
    assert attempts.unended("7").start == "7.0" and attempts.unended("8") is None
    attempts.add(AttemptEnded(start="7.0", action="lost", why="b was lost", bad_node="b"))
    assert Attempts.of(run).unended("7") is None and Attempts.of(run).bad_nodes() == {"b": "b was lost"}


def test_a_node_that_is_blamed_again_is_the_latest_one(run):
    attempts = Attempts.of(run)
    for start, node in (("7.0", "a"), ("7.1", "b"), ("7.2", "a")):
        attempts.add(AttemptEnded(start=start, action="requeue", why=f"{node} in {start}", bad_node=node))
    assert list(attempts.bad_nodes().items()) == [("b", "b in 7.1"), ("a", "a in 7.2")]
    assert nodes_to_exclude(attempts.bad_nodes(), [], STATES, 2)[0] == ["a"]
    assert list(attempts.bad_nodes("b").items()) == [("a", "a in 7.2"), ("b", "at fault")], "before its start's end is written down"
    assert nodes_to_exclude(attempts.bad_nodes("b"), [], STATES, 2)[0] == ["b"]


def test_later_start_owns_the_run(run):
    assert Attempts.of(run).latest_start() is None
    begin(run, "7.0", 0)
    begin(run, "7.1", 0)
    assert Attempts.of(run).latest_start() == "7.1"


def test_an_event_of_a_later_version_is_kept_and_decides_nothing(run):
    begin(run, "7.0", 0)
    with open(run.launch / "attempts.jsonl", "a") as lines:
        lines.write('{"event": "paused", "start": "7.0", "for": "a better day"}\n')
    attempts = Attempts.of(run)
    assert [event.start for event in attempts.events] == ["7.0", "7.0"] and attempts.unended("7").start == "7.0"


def test_lost_node_is_one_that_slurm_cannot_reach():
    assert lost_node(["a", "d"], STATES) == "d" and lost_node(["a", "b"], STATES) is None
    assert lost_node(["b"], {"b": "mixed*"}) == "b"


def test_bad_node_is_left_out_while_enough_others_work():
    assert nodes_to_exclude({"a": "x"}, [], STATES, 2) == (["a"], "a is left out on the next start")


def test_bad_node_is_kept_when_the_job_could_not_start_without_it():
    excluded, told = nodes_to_exclude({"a": "x"}, ["c"], STATES, 2)
    assert excluded == [] and told == "a failed but is not left out: 1 other nodes work, 2 are needed"


def test_nodes_that_are_left_out_together_are_told_in_one_line():
    excluded, told = nodes_to_exclude({"a": "x", "b": "y"}, ["e"], STATES, 1)
    assert excluded == ["e", "b", "a"] and told == "b is left out on the next start; a is left out on the next start"


def test_of_several_bad_nodes_the_latest_is_left_out_first():
    excluded, told = nodes_to_exclude({"a": "x", "b": "y"}, [], STATES, 2)
    assert excluded == ["b"] and "a failed but is not left out" in told


def test_starts_of_a_job_meet_on_different_ports_and_pass_over_taken_ones():
    with hold_port(1234, 0) as first, hold_port(1234, 1) as second, hold_port(1234, 0) as again:
        assert len({port.getsockname()[1] for port in (first, second, again)}) == 3


@pytest.mark.parametrize(
    ("line", "rank", "node", "exit_code"),
    [
        ("srun: error: node2: task 1: Killed", 1, "node2", 137),
        ("srun: error: node1: tasks 0-3: Exited with exit code 2", 0, "node1", 2),
        ("srun: error: gpu-7: task 12: Segmentation fault (core dumped)", 12, "gpu-7", 139),
        ("srun: error: Node failure on node3", None, "node3", 1),
    ],
)
def test_task_that_srun_complains_of_first_is_named(line, rank, node, exit_code):
    log = f"step 1/20\n{line}\nsrun: error: node9: task 9: Terminated\n"
    task = first_failed_task(log)
    assert (task.rank, task.node, task.exit_code) == (rank, node, exit_code)


def note(run: RunFolder, rank: int, **failure) -> None:
    plain = {
        "rank": rank,
        "host": f"node{rank}",
        "message": "x",
        "where": "codemix_megatron/a.py:7",
        "known": False,
        "exit_code": 1,
        "at": rank,
    }
    write_json(run.logs / "failures" / f"7.0-rank-{rank}.json", plain | failure)


@pytest.mark.parametrize(
    ("failure", "line", "words"),
    [
        ({"message": "x"}, "node0: task 0: Exited with exit code 1", "rank 1 on node1 failed first, at codemix_megatron/a.py:7: x"),
        ({"message": "Connection closed by peer"}, "node2: task 2: Killed", "rank 2 on node2 failed first: killed by a signal (Killed)"),
        ({"message": "Connection closed by peer"}, "node2: task 2: Exited with exit code 1", "rank 1 on node1 failed first"),
        (None, "node2: task 2: Exited with exit code 1", "rank 2 on node2 failed first: Exited with exit code 1"),
        (None, "Node failure on node3", "node3 failed: Node failure on node3"),
    ],
)
def test_first_failure_is_that_of_the_rank_that_left_no_word_where_others_only_lost_it(run, failure, line, words):
    if failure:
        note(run, 1, **failure)
    log = run.path / "job.log"
    log.write_text(f"of an earlier start\nsrun: error: {line}\n")
    assert first_failed_rank(run, "7.0", log, 20).describe().startswith(words)


@pytest.mark.parametrize(
    ("failure", "line", "evidence"),
    [
        ({"message": "x", "known": True}, "node1: task 1: Exited with exit code 1", None),  # a wrong interface, a missing variable
        ({"message": "x"}, "node1: task 1: Exited with exit code 1", None),
        ({"message": "x", "evidence": "uncorrectable ECC error"}, "node1: task 1: Exited with exit code 1", "uncorrectable ECC error"),
        (None, "node1: task 1: Killed", None),  # by whom, nobody knows
        (None, "node1: task 1: Bus error", "Bus error"),
        (None, "Node failure on node1", "srun lost it"),
    ],
)
def test_node_is_at_fault_only_where_something_speaks_for_it(run, failure, line, evidence):
    if failure:
        note(run, 1, **failure)
    log = run.path / "job.log"
    log.write_text(f"srun: error: {line}\n")
    failed = first_failed_rank(run, "7.0", log, 0)
    assert failed.node == "node1" and failed.evidence == evidence


def test_words_of_the_hardware_in_a_ranks_own_log_speak_for_its_node(run):
    run.logs.mkdir(exist_ok=True)
    (run.logs / "rank-1.log").write_text("Z start 6.0: rank 1\nZ start 7.0: rank 1\nZ NVRM: Xid (PCI:0000:3b:00): 79\n")
    log = run.path / "job.log"
    log.write_text("srun: error: node1: task 1: Killed\n")
    failed = first_failed_rank(run, "7.0", log, 0)
    assert (failed.evidence, failed.log, failed.exit_code) == ("Xid", run.logs / "rank-1.log", 137)


def test_of_a_log_that_ranks_of_a_node_share_only_the_ranks_own_words_speak(run):
    run.logs.mkdir(exist_ok=True)
    (run.logs / "node-node1.log").write_text("[0] Z start 7.0: rank 0\n[1] Z start 7.0: rank 1\n[0] NVRM: Xid (PCI:0000:3b:00): 79\n")
    log = run.path / "job.log"
    for rank, evidence in ((1, None), (0, "Xid")):
        log.write_text(f"srun: error: node1: task {rank}: Killed\n")
        failed = first_failed_rank(run, "7.0", log, 0)
        assert (failed.rank, failed.evidence, failed.log) == (rank, evidence, run.logs / "node-node1.log")


def test_starts_of_jobs_that_go_on_from_each_other_are_counted_together(run):
    for job, following in (("7", "8"), ("8", "9"), ("9", None)):
        attempts = begin(run, f"{job}.0", 3)
        attempts.add(AttemptEnded(start=f"{job}.0", action="resubmit", why="", next_job=following))
    attempts = begin(run, "5.0", 3)
    assert attempts.jobs_up_to("9") == ["7", "8", "9"] and attempts.goes_on_in("7") == "9" and attempts.goes_on_in("5") == "5"
    assert attempts.without_progress("9", 3) == 3 and attempts.without_progress("5", 3) == 1


def test_start_in_which_nobody_complains_has_no_failed_rank(run):
    note(run, 1)
    assert first_failed_rank(run, "7.1", run.path / "job.log", 0) is None


@pytest.mark.parametrize(
    ("at_fault", "states", "needed", "nodes"),
    [
        ({"b"}, {}, 2, ["a", "c"]),
        (set(), {"a": "down*"}, 2, ["b", "c"]),
        (set(), {}, 2, ["a", "b"]),
        ({"b"}, {"a": "down*"}, 2, []),
        ({"x"}, {"c": "idle"}, 3, ["a", "b", "c"]),
    ],
)
def test_start_goes_on_inside_its_job_on_nodes_that_are_well(at_fault, states, needed, nodes):
    assert nodes_to_restart_on(["a", "b", "c"], at_fault, states, needed) == nodes


@pytest.mark.parametrize(
    ("lost", "evidence", "action", "blamed"),
    [
        ("a", None, "requeue", "a"),
        ("a", "Xid", "requeue", "a"),
        (None, "Xid", "requeue", "b"),
        (None, "Xid", "fail", "b"),
        (None, None, "requeue", None),  # a bug, a setting, a rank that somebody killed
        (None, "Xid", "leave", None),
        (None, "Xid", "done", None),
    ],
)
def test_a_node_is_blamed_that_was_lost_or_whose_hardware_speaks_of_a_fault(lost, evidence, action, blamed):
    failed = FailedRank(1, "b", "x", 1, None, None, evidence)
    assert node_at_fault(lost, failed, action) == blamed
    assert node_at_fault(lost, None, action) == lost


@pytest.mark.parametrize(
    ("failed", "line"),
    [
        (FailedRank(1, "b", "x", 1), "rank 1 on b failed first: x"),
        (FailedRank(0, "b", "x", 1, "a.py:7", Path("rank-0.log")), "rank 0 on b failed first, at a.py:7: x (output: rank-0.log)"),
        (FailedRank(None, "b", "Node failure on b", 1), "b failed: Node failure on b"),
        (FailedRank(1, "b", "x", 1, None, None, "Xid"), "rank 1 on b failed first: x; the node is at fault: Xid"),
        (FailedRank(1, "b", "Bus error", 1, None, None, "Bus error"), "rank 1 on b failed first: Bus error"),
    ],
)
def test_a_failed_rank_is_described_in_one_line(failed, line):
    assert failed.describe() == line
