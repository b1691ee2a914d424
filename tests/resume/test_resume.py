"""Stopped, killed, torn: whatever happens, the losses that follow are those of a run that was never disturbed."""

import json
import os
import signal
import subprocess
import time

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import kill, ranks_of
from whole_checkpoint import tensors_of

from codemix_megatron.megatron.optimizer_shards import AVERAGE

pytestmark = pytest.mark.distributed
INFILLING = "corpora.snippets.fill_in_the_middle={rate: 0.5, sentinels: [Ā, ā, Ă]}"  # bytes 0, 1, 2, which no document has
LAYOUT = ["parallel.tensor=2", INFILLING]
EVERY = ["checkpoint.every_steps=4"]
BEHIND = ["checkpoint.every_steps=1", "checkpoint.asynchronous=true"]  # some save is always under way


@pytest.fixture(scope="module")
def undisturbed(tiny):
    """A run at TP2 that nothing happens to."""
    done = tiny.train("undisturbed", *LAYOUT)
    assert done.returncode == 0, done.stderr
    return tiny.losses("undisturbed")


def slowed(tiny, run: str, step: int, *words) -> subprocess.Popen:
    """Start training and come back when it has made `step` steps."""
    process = tiny.start_training(run, *LAYOUT, *words)
    tiny.wait_for_step(run, step)
    return process


def finish(tiny, run: str, *words):
    """Run the same command to its end."""
    done = tiny.train(run, *(words or LAYOUT))
    assert done.returncode == 0, done.stderr
    return tiny.losses(run)


def test_stopped_by_sigterm_and_resumed_is_bit_for_bit_the_same(tiny, undisturbed, measured):
    process = slowed(tiny, "stopped", 3, *BEHIND)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 75, output
    stop = tiny.events("stopped", "stop")[-1]["step"]
    assert (tiny.folder / "stopped" / "checkpoints" / f"step-{stop}" / "card.json").is_file()
    assert finish(tiny, "stopped") == undisturbed
    measured(f"stopped at step {stop} of 20 and resumed, TP2: losses equal those of an undisturbed run bit for bit")
    starts = [e["step"] for e in tiny.events("stopped", "start")]
    assert starts[0] == 0 and stop in starts[1:]


def test_killed_rank_ends_all_within_a_minute_and_resumes_bit_for_bit(tiny, undisturbed):
    process = slowed(tiny, "killed", 6, *BEHIND)
    began = time.monotonic()
    kill(ranks_of(tiny.folder / "killed")[1])
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert time.monotonic() - began < 60
    assert process.returncode == 1
    assert "was killed by SIGKILL" in output and "Traceback" not in output
    assert not ranks_of(tiny.folder / "killed")
    assert finish(tiny, "killed", *LAYOUT, *BEHIND) == undisturbed
    assert not list((tiny.folder / "killed" / "checkpoints").glob(".*"))


def test_checkpoint_written_behind_training_holds_the_same_tensors_bit_for_bit(tiny, undisturbed):
    """Both saved the end of the first phase: one standing still, the other (after a kill) while it trained on."""
    import torch

    behind = [event["asynchronous"] for event in tiny.events("killed", "checkpoint") if event["step"] == 12]
    assert behind == [True] and not tiny.events("undisturbed", "checkpoint")[0]["asynchronous"]
    still, moving = (tensors_of(tiny.folder / run / "checkpoints" / "step-12") for run in ("undisturbed", "killed"))
    assert still.keys() == moving.keys() and all(torch.equal(still[name], moving[name]) for name in still)


def test_ranks_do_not_outlive_a_killed_launching_process(tiny, undisturbed):
    """They would go on writing into the folder that the next start resumes."""
    process = slowed(tiny, "orphaned", 2, *BEHIND)
    assert len(ranks_of(tiny.folder / "orphaned")) == 2
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ranks_of(tiny.folder / "orphaned"):
        assert time.monotonic() < deadline, "ranks go on without the process that started them"
        time.sleep(0.1)


def test_crash_in_native_code_is_started_again_by_the_same_command(tiny, undisturbed):
    process = slowed(tiny, "crashed", 6, *EVERY)
    os.kill(ranks_of(tiny.folder / "crashed")[1], signal.SIGSEGV)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    assert "was killed by SIGSEGV" in output and "starting the ranks again from the last checkpoint" in output
    assert tiny.losses("crashed") == undisturbed
    assert len(tiny.events("crashed", "start")) >= 2


def test_resumed_on_another_layout_follows_the_same_losses(tiny, undisturbed):
    process = slowed(tiny, "moved", 3, *BEHIND)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 75
    losses = finish(tiny, "moved", "parallel.data=2", INFILLING)
    assert losses == pytest.approx(undisturbed, abs=1e-5)


def test_torn_checkpoint_is_named_and_the_one_before_is_used(tiny, undisturbed):
    run = tiny.rewind("undisturbed", "torn", 20)
    shard = next((run / "checkpoints" / "step-20").glob("__0_*.distcp"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert tiny.codemix_here("checkpoints", run).returncode == 0  # every file has the size it should have
    listed = tiny.codemix_here("checkpoints", run, "--verify")
    assert (
        listed.returncode == 1 and f"step-20: {shard.name} has another checksum" in listed.stdout and "1 complete, 1 torn" in listed.stdout
    )
    resumed = tiny.train("torn", *LAYOUT)
    assert resumed.returncode == 0 and "it is not used" in resumed.stdout
    assert tiny.losses("torn") == undisturbed
    warning = tiny.events("torn", "warning")[0]["text"]
    assert f"step-20: {shard.name} has another checksum than card.json says; it is not used" in warning
    assert tiny.events("torn", "start")[-1]["step"] == 12
    listed = json.loads(tiny.codemix_here("checkpoints", run, "--verify", "--json").stdout)
    assert [(entry["name"], entry["phase"], entry["kept"]) for entry in listed if entry["is_checkpoint"]] == [
        ("step-12", "balanced", "phase end"),
        ("step-20", "cooldown", "phase end"),
    ]
    assert [entry["name"] for entry in listed if not entry["is_checkpoint"]] == ["step-20.torn"]


def test_finished_run_is_left_alone(tiny, undisturbed):
    again = tiny.train_here("undisturbed", *LAYOUT)
    assert again.returncode == 0 and "already trained to step 20" in again.stdout
    assert tiny.losses("undisturbed") == undisturbed


def test_changed_recipe_is_refused_with_a_diff(tiny, undisturbed):
    refused = tiny.train_here("undisturbed", *LAYOUT, "optimizer.weight_decay=0.3")
    assert refused.returncode == 2
    assert "-  weight_decay: 0.1" in refused.stderr and "+  weight_decay: 0.3" in refused.stderr


def test_another_form_of_the_optimizers_state_is_refused(tiny, undisturbed):
    refused = tiny.train_here("undisturbed", *LAYOUT, "parallel.distributed_optimizer=false")
    assert refused.returncode == 2 and "+  distributed_optimizer: false" in refused.stderr


def test_full_disk_during_a_save_is_one_message_and_keeps_the_checkpoint_before(tiny, undisturbed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        full = tiny.codemix("train", tiny.recipe, "--folder", disk / "run", *LAYOUT, "checkpoint.every_steps=2", "checkpoint.keep_last=9")
        assert full.returncode == 1
        assert "could not be saved" in full.stderr and "No space left" in full.stderr and "Traceback" not in full.stderr
        left = sorted(p.name for p in (disk / "run" / "checkpoints").iterdir())
        assert left and all((disk / "run" / "checkpoints" / name / "card.json").is_file() for name in left)
        behind = tiny.codemix("train", tiny.recipe, "--folder", disk / "run", *LAYOUT, *BEHIND, "checkpoint.keep_last=9")
        assert behind.returncode == 1 and "Traceback" not in behind.stderr
        assert "No space left" in behind.stderr or "could not be saved" in behind.stderr  # the journal may meet the full disk first
        assert left == sorted(p.name for p in (disk / "run" / "checkpoints").iterdir() if not p.name.startswith("."))
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        resumed = tiny.codemix("train", tiny.recipe, "--folder", disk / "run", *LAYOUT)
        assert resumed.returncode == 0, resumed.stderr
        lines = map(json.loads, (disk / "run" / "journal.jsonl").read_text().splitlines())
        assert [e["loss"] for e in lines if e["event"] == "step"] == undisturbed
    finally:
        subprocess.run(["umount", disk], check=True)


def test_moving_average_of_the_weights_goes_on_bit_for_bit(tiny):
    """The average is the optimizer's state as Adam's moments are: killed after step 12, the run ends with the same one."""
    import torch

    options = ("optimizer.average_decay=0.9", "checkpoint.keep_last=9")
    assert tiny.train("averaging", *options).returncode == 0
    tiny.rewind("averaging", "averaging-again", 12)
    assert tiny.train("averaging-again", *options).returncode == 0
    whole, again, before = (
        tensors_of(tiny.folder / run / "checkpoints" / f"step-{step}")
        for run, step in (("averaging", 20), ("averaging-again", 20), ("averaging", 12))
    )
    averages = [name for name in whole if AVERAGE in name]
    assert averages and whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)
    assert all(not torch.equal(whole[name], before[name]) for name in averages)
