"""A recipe trained on Slurm's nodes ends as if nothing had happened to them: signals, preemption, lost nodes, failing ranks."""

import json
import os
import time

import pytest
from patience import PATIENCE_SECONDS, wait_until
from tiny_run import REPOSITORY

EVERY_STEP = "checkpoint.every_steps=1"

# Python imports this by itself at its start: while the file `hold` lies beside it, a save stays half written, and `held` says so.
HELD_COMMITS = f"""
import os, time
rename, here = os.rename, os.path.dirname(__file__)

def rename_later(source, target, *words, **named):
    if os.path.basename(source).startswith(".step-") and ".partial" in os.path.basename(source):
        until = time.monotonic() + {PATIENCE_SECONDS}
        while os.path.exists(os.path.join(here, "hold")) and time.monotonic() < until:
            open(os.path.join(here, "held"), "w").close()
            time.sleep(0.02)
    return rename(source, target, *words, **named)

os.rename = rename_later
"""


@pytest.fixture(scope="module")
def eventful(launcher, cluster, tiny, tmp_path_factory):
    """One run on two nodes that is pushed aside, loses a node in mid-training and another one in mid-save; its job's last fields."""
    # Of three nodes none can be left out for good where one more is to be lost.
    commits = tmp_path_factory.mktemp("commits")
    (commits / "sitecustomize.py").write_text(HELD_COMMITS)
    path = os.pathsep.join([str(commits), str(REPOSITORY)])
    job = launcher.train(
        "eventful", "parallel.tensor=2", EVERY_STEP, partition="spare", exclude_bad_nodes=False, environment={"PYTHONPATH": path}
    )
    tiny.wait_for_step("eventful", 2)
    urgent = cluster.run(
        "sbatch", "--parsable", "--partition=train", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=true"
    ).stdout
    begin = launcher.wait_for_start("eventful", 2)
    cluster.wait_for_job(urgent.strip())
    launcher.wait_for_own_steps("eventful", begin, 2)
    lost = [begin["nodes"][1]]
    cluster.lose_power(lost[0])
    begin = launcher.wait_for_start("eventful", 3)
    cluster.start_node(lost[0])
    launcher.wait_for_own_steps("eventful", begin, 2)
    lost.append(begin["nodes"][0])
    cut_off = lose_power_in_mid_save(cluster, tiny.folder / "eventful" / "checkpoints", lost[1], commits)
    launcher.wait_for_start("eventful", 4)
    cluster.start_node(lost[1])
    fields = cluster.wait_for_job(job)
    cluster.wait_for_nodes(3)
    return {"fields": fields, "lost": lost, "cut_off": cut_off}


def lose_power_in_mid_save(cluster, checkpoints, node: str, commits) -> list[str]:
    """Take a node's power while a checkpoint is half written; return the half-written ones."""
    (commits / "hold").touch()
    wait_until((commits / "held").exists, "no save was seen")
    cluster.lose_power(node)
    (commits / "hold").unlink()
    return [path.name for path in checkpoints.glob(".step-*.partial")]


def actions(launcher, run: str) -> list[str]:
    """Return what was decided at the end of each start."""
    return [end["action"] for end in launcher.attempts(run, "end")]


def test_signalled_run_saves_is_queued_again_and_ends_bit_for_bit_the_same(launcher, cluster, tiny, measured):
    layout = ["parallel.tensor=2", "parallel.data=2"]
    job = launcher.train("signalled", *layout, ranks_per_node=2)
    again = launcher.launch(tiny.recipe, "--site", launcher.site, "--folder", tiny.folder / "signalled", *layout)
    assert again.returncode == 2 and f"job {job} works on it already" in again.stderr
    tiny.wait_for_step("signalled", 3)
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    fields = cluster.wait_for_job(job)
    assert (fields["JobState"], fields["Restarts"]) == ("COMPLETED", "1"), launcher.log("signalled")
    assert actions(launcher, "signalled") == ["requeue", "done"]
    first, second = launcher.attempts("signalled", "begin")
    stop = launcher.attempts("signalled", "end")[0]["checkpoint_step"]
    assert second["checkpoint_step"] == stop >= 3 and first["master"] != second["master"]
    assert [event["step"] for event in tiny.events("signalled", "start")] == [0, stop]
    assert tiny.train("two-by-two", *layout, "--nproc", "4").returncode == 0
    assert tiny.losses("signalled") == tiny.losses("two-by-two")
    measured(f"Slurm, 2 nodes x 2 ranks, USR1 at step 3: saved at {stop}, queued again, losses equal those of a local run bit for bit")


def test_script_recipe_and_environment_of_a_job_are_kept(launcher, tiny):
    folder = tiny.folder / "signalled" / "launch"
    kept = json.loads((folder / "environment.json").read_text())
    assert kept["git"]["commit"] and kept["versions"]["torch"] and "PATH" in kept["environment"]
    assert "#SBATCH --ntasks-per-node=2" in (folder / "job.sbatch").read_text()
    assert "tensor: 2" in (folder / "recipe.yaml").read_text()


def test_preempted_run_saves_and_is_queued_again(launcher, tiny, eventful):
    end = launcher.attempts("eventful", "end")[0]
    assert end["action"] == "requeue" and "preemption" in end["why"], launcher.log("eventful")
    assert tiny.events("eventful", "stop")[0]["step"] == end["checkpoint_step"]


def test_run_goes_on_at_its_last_checkpoint_when_a_node_loses_power(launcher, tiny, eventful):
    second, third = launcher.attempts("eventful", "begin")[1:3]
    assert eventful["lost"][0] in second["nodes"] and eventful["lost"][0] not in third["nodes"]
    assert third["checkpoint_step"] >= second["checkpoint_step"] + 1


def test_save_cut_off_by_a_lost_node_costs_that_save_only(launcher, tiny, eventful):
    (cut_off,) = eventful["cut_off"]
    step = int(cut_off.split("-")[1].split(".")[0])
    last = launcher.attempts("eventful", "begin")[3]
    assert last["checkpoint_step"] == step - 1 and eventful["lost"][1] not in last["nodes"]
    assert not list((tiny.folder / "eventful" / "checkpoints").glob(".*"))


def test_run_that_everything_happened_to_ends_bit_for_bit_the_same(launcher, tiny, eventful, undisturbed, measured):
    assert eventful["fields"]["JobState"] == "COMPLETED", launcher.log("eventful")
    assert len(launcher.attempts("eventful", "begin")) == 4 and actions(launcher, "eventful")[-1] == "done"
    assert tiny.losses("eventful") == undisturbed
    measured("Slurm, preempted, a node lost in mid-training and one in mid-save: losses equal those of an undisturbed run bit for bit")


@pytest.mark.slow
def test_ranks_on_a_node_that_slurm_cannot_reach_end_when_the_run_goes_on_elsewhere(launcher, cluster, tiny):
    """They still reach the disk, and would go on writing into the folder that the next start resumes."""
    if not cluster.isolated:
        pytest.skip("nodes have no network of their own here")
    endless = ["phases.0.tokens=2M", "corpora.prose.max_epochs=1000", "corpora.snippets.max_epochs=1000", EVERY_STEP]
    job = launcher.train("cut-off", *endless)
    tiny.wait_for_step("cut-off", 3)
    node = launcher.attempts("cut-off", "begin")[0]["nodes"][0]
    cluster.cut_off(node)
    begin = launcher.wait_for_start("cut-off", 2)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "the ranks of this one are killed" not in launcher.log("cut-off"):
        assert time.monotonic() < deadline, launcher.log("cut-off")
        time.sleep(0.1)
    while len(tiny.events("cut-off", "start")) < 2:
        assert time.monotonic() < deadline, launcher.log("cut-off")
        time.sleep(0.1)
    tiny.wait_for_step("cut-off", tiny.events("cut-off", "start")[1]["step"] + 3)
    assert node not in begin["nodes"]
    cluster.reconnect(node)
    cluster.run("scancel", job)
    assert cluster.wait_for_job(job)["Restarts"] == "1", launcher.log("cut-off")
    assert launcher.attempts("cut-off", "end")[-1]["action"] == "leave"
    cluster.wait_for_nodes(3)
