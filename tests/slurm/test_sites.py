"""Sites as they are: nothing exported, nothing queued again, names that are loopbacks, limits, shells; and one trainer for each folder."""

import shlex
import shutil
import signal

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY

ENDLESS = ["phases.0.tokens=2M", "corpora.prose.max_epochs=1000", "corpora.snippets.max_epochs=1000"]


@pytest.fixture(scope="module")
def started(launcher, cluster, tiny, undisturbed):
    """Three runs at once on two nodes each: nothing exported; an interface that is not there; nothing queued again. Name -> job."""
    environment = {
        "PYTHONPATH": str(REPOSITORY),
        "SLURM_CONF": str(cluster.configuration),
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin",
    }
    two_nodes = "parallel.tensor=2"
    jobs = {
        "barred": launcher.train("barred", two_nodes, "checkpoint.every_steps=1", sbatch=["--no-requeue"], exclude_bad_nodes=False),
        "unexported": launcher.train("unexported", two_nodes, sbatch=["--export=NONE"], environment=environment),
        "unconnected": launcher.train("unconnected", two_nodes, network_interface="ib9"),
    }
    tiny.wait_for_step("barred", 2)
    after = cluster.run("sbatch", "--parsable", f"--dependency=afterok:{jobs['barred']}", "--output=/dev/null", "--wrap=true")
    jobs["afterwards"] = after.stdout.strip()
    cluster.run("scancel", "--batch", "--signal=USR1", jobs["barred"])
    return jobs


def test_site_that_exports_nothing_trains_on_nodes_whose_names_are_loopbacks(launcher, cluster, tiny, started, undisturbed):
    assert cluster.wait_for_job(started["unexported"])["JobState"] == "COMPLETED", launcher.log("unexported")
    assert tiny.losses("unexported") == undisturbed


def test_interface_that_is_not_there_is_named_and_no_node_blamed(launcher, cluster, started):
    assert cluster.wait_for_job(started["unconnected"])["ExitCode"] == "2:0", launcher.log("unconnected")
    (end,) = launcher.attempts("unconnected", "end")
    assert "network_interface (GLOO_SOCKET_IFNAME) is ib9" in end["why"] and "there are eth0 10.77.0." in end["why"]
    assert end["action"] == "fail" and "bad_node" not in end


def test_job_that_may_not_be_queued_again_is_followed_by_one_that_goes_on(launcher, cluster, tiny, started):
    first = cluster.wait_for_job(started["barred"])
    end = launcher.attempts("barred", "end")[0]
    assert end["action"] == "resubmit" and f"job {end['next_job']} resumes" in end["why"], launcher.log("barred")
    assert first["Restarts"] == "0" and tiny.events("barred", "stop")[0]["step"] == end["checkpoint_step"]
    assert cluster.fields(started["afterwards"])["JobState"] == "PENDING"  # it would be cancelled if it still waited for the first job


def test_lost_node_that_is_not_the_batch_host_is_named_and_the_run_goes_on(launcher, cluster, tiny, started, undisturbed, measured):
    begin = launcher.wait_for_start("barred", 2)
    launcher.wait_for_own_steps("barred", begin, 2)
    lost = begin["nodes"][1]
    cluster.lose_power(lost)
    last = launcher.wait_for_start("barred", 3)
    cluster.start_node(lost)
    assert cluster.wait_for_job(last["job"])["JobState"] == "COMPLETED", launcher.log("barred")
    assert cluster.wait_for_job(started["afterwards"])["JobState"] == "COMPLETED"
    end = launcher.attempts("barred", "end")[1]
    assert (end["action"], end["bad_node"]) == ("resubmit", lost) and f"{lost} was lost" in end["why"], launcher.log("barred")
    assert tiny.losses("barred") == undisturbed
    cluster.wait_for_nodes(3)
    measured("Slurm, --no-requeue, stopped once and a node lost once: three jobs, losses equal those of an undisturbed run bit for bit")


@pytest.mark.slow
def test_one_trainer_at_a_time_whoever_came_first(launcher, cluster, tiny):
    held = launcher.train("contested", *ENDLESS, sbatch=["--hold"])
    local = tiny.start_training("contested", *ENDLESS)
    try:
        tiny.wait_for_step("contested", 2)
        cluster.run("scontrol", "release", held)
        assert cluster.wait_for_job(held)["ExitCode"] == "2:0", launcher.log("contested")
        (end,) = launcher.attempts("contested", "end")
        assert "another start trains in it (process" in end["why"] and end["action"] == "fail" and "bad_node" not in end
        refused = launcher.launch(tiny.recipe, "--site", launcher.site_file(), "--folder", tiny.folder / "contested", *ENDLESS)
        assert refused.returncode == 2 and "another start trains in it (process" in refused.stderr
    finally:
        local.send_signal(signal.SIGTERM)
        assert local.wait(PATIENCE_SECONDS) == 75
    job = launcher.train("contested", *ENDLESS)
    stopped = tiny.events("contested", "stop")[0]["step"]
    tiny.wait_for_step("contested", stopped + 2)
    late = tiny.train("contested", *ENDLESS)
    assert late.returncode == 2 and f"another start trains in it (Slurm job {job}, process" in late.stderr, late.stderr
    (tiny.folder / "contested" / "stop").touch()
    cluster.wait_for_job(job)
    steps = [event["step"] for event in tiny.events("contested")]
    assert steps == list(range(1, len(steps) + 1))  # nobody cut anybody's journal


def test_job_longer_than_its_partition_allows_is_refused(launcher, tiny):
    site = launcher.site_file(partition="short", time_limit_hours=48)
    refused = launcher.launch(tiny.recipe, "--site", site, "--folder", tiny.folder / "long")
    assert refused.returncode == 2 and "time_limit_hours: 48 is more than its MaxTime of 1 hours" in refused.stderr
    assert not (tiny.folder / "long" / "launch" / "job.json").exists()


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("srun --pty {python}", "None"),
        ("salloc --quiet {python}", "None"),
        ("salloc --quiet srun --ntasks=1 {python}", "None"),
        ("srun --nodes=2 --ntasks=2 --export=ALL,MASTER_ADDR=node1,MASTER_PORT=1 {python}", "size=2"),
    ],
)
def test_shell_of_slurm_is_no_rank(launcher, cluster, command, printed):
    code = "from codemix_megatron.placement import find_placement; print(find_placement())"
    words = command.format(python=shlex.join([launcher.python, "-c", code]))
    done = cluster.run("script", "--quiet", "--return", "--command", words, "/dev/null")  # --pty wants a terminal
    assert done.returncode == 0 and printed in done.stdout, done.stdout + done.stderr


def test_site_file_that_slurm_describes_trains(launcher, cluster, tiny, tmp_path):
    """`codemix site init` on a cluster it has never seen; what it writes is a site that launch takes."""
    site = tmp_path / "site.yaml"
    made = cluster.run(launcher.python, "-m", "codemix_megatron", "site", "init", "--output", site, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    text = site.read_text()
    assert "partition: train\n" in text and "cpus_per_rank: 4" in text and "# short: 3 nodes of 4 CPUs, at most 1 hours" in text
    again = cluster.run(launcher.python, "-m", "codemix_megatron", "site", "init", "--output", site, cwd=tmp_path)
    assert again.returncode == 2 and "there already" in again.stderr
    shown = launcher.launch(tiny.recipe, "--site", site, "--folder", tiny.folder / "never", "--dry-run")
    assert shown.returncode == 0 and "#SBATCH --cpus-per-task=4" in shown.stdout


@pytest.mark.slow
def test_doctor_tries_a_site_and_says_what_it_means(launcher, cluster, tmp_path):
    words = ["doctor", "--site", launcher.site_file(), "--wait", "200"]
    done = cluster.run(launcher.python, "-m", "codemix_megatron", *words, cwd=tmp_path, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 nodes x 1 ranks on cpu trained together" in done.stdout and "nodes exchange" in done.stdout
    bad = cluster.run(
        launcher.python,
        "-m",
        "codemix_megatron",
        "doctor",
        "--site",
        launcher.site_file(network_interface="ib9"),
        cwd=tmp_path,
        timeout=PATIENCE_SECONDS,
    )
    assert (
        bad.returncode == 1 and "FAILS" in bad.stdout and "network_interface (GLOO_SOCKET_IFNAME) is ib9" in bad.stdout.replace("\n", " ")
    )


@pytest.mark.slow
def test_start_that_lost_a_node_goes_on_in_the_same_job_with_a_spare_one(launcher, cluster, tiny, undisturbed, measured):
    cluster.wait_for_nodes(3)
    job = launcher.train("spared", "--spares", "1", "parallel.tensor=2", "checkpoint.every_steps=1")
    tiny.wait_for_step("spared", 2)
    lost = launcher.attempts("spared", "begin")[0]["nodes"][1]
    cluster.lose_power(lost)
    again = launcher.wait_for_start("spared", 2)
    fields = cluster.wait_for_job(job)
    cluster.start_node(lost)
    assert (fields["JobState"], fields["Restarts"]) == ("COMPLETED", "0"), launcher.log("spared")
    first, last = launcher.attempts("spared", "end")
    assert (first["action"], first["bad_node"], last["action"]) == ("restart", lost, "done"), launcher.log("spared")
    assert again["job"] == job and again["start"] == f"{job}.0-1" and lost not in again["nodes"] and len(again["nodes"]) == 2
    assert tiny.losses("spared") == undisturbed
    (recovery,) = launcher.attempts("spared", "recovery")
    assert f"{recovery['seconds']} s from the failure to the next step, in the same job" in launcher.log("spared")
    measured(
        f"Slurm, a node lost and a spare one taken in the same job: {recovery['seconds']} s from the failure to the next step, losses equal"
    )
    cluster.wait_for_nodes(3)


@pytest.mark.slow
def test_ranks_start_from_each_nodes_own_disk(launcher, cluster, tiny, undisturbed, measured):
    """The real environment, packed once and unpacked by two nodes, each on its own disk; the second start finds it there."""
    if not cluster.isolated:
        pytest.skip("nodes that share a disk: only the first to come unpacks")
    stage = {"stage_directory": str(cluster.disk)}
    job = launcher.train("staged", "--stage", "parallel.tensor=2", "checkpoint.every_steps=1", **stage)
    tiny.wait_for_step("staged", 2)
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    assert cluster.wait_for_job(job)["JobState"] == "COMPLETED", launcher.log("staged")
    (archive,) = (tiny.folder / ".staged").glob("*.tar")
    log = launcher.log("staged")
    folder = f"{cluster.disk}/codemix-0/{archive.stem}"
    assert "could not be unpacked" not in log and f"was unpacked into {folder} of 2 nodes in" in log, log
    assert f"the environment is in {folder} of 2 nodes already" in log
    (saved,) = [line for line in log.splitlines() if "saved at each start" in line]
    said = (tiny.folder / "staged" / "environment.json").read_text()
    assert tiny.losses("staged") == undisturbed and said
    measured(f"Slurm, --stage: {saved.partition('launch: ')[2]}")
    archive.unlink()
    for node in cluster.names:
        shutil.rmtree(cluster.folder / "disks" / node / "codemix-0", ignore_errors=True)
