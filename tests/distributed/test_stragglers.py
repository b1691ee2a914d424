"""A rank that is really slowed down is named while training goes on."""

import os
import signal
import subprocess
import time

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import ranks_of

pytestmark = pytest.mark.distributed
LONG = ["phases.0.tokens=2048000", "corpora.prose.max_epochs=9999", "corpora.snippets.max_epochs=9999"]


def test_rank_whose_core_others_use_too_is_named(tiny, measured):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs a core for each rank")
    run, hogs = tiny.folder / "slowed", []
    training = tiny.start_training("slowed", *LONG, "parallel.data=2", "observers.straggler_every_steps=5")
    try:
        tiny.wait_for_step("slowed", 40)
        began = len(tiny.events("slowed"))
        slow, core = ranks_of(run)[1], str(cores[1])
        os.sched_setaffinity(slow, {cores[1]})
        os.setpriority(os.PRIO_PROCESS, slow, 8)  # a sixth of another process's right to the core
        hogs = [subprocess.Popen(["taskset", "-c", core, "yes"], stdout=subprocess.DEVNULL)]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := [event for event in tiny.events("slowed", "straggler") if event["rank"] == 1]):
            assert time.monotonic() < deadline and training.poll() is None
            time.sleep(0.2)
    finally:
        for hog in hogs:
            hog.kill()
        training.send_signal(signal.SIGTERM)
        said, _ = training.communicate(timeout=PATIENCE_SECONDS)
    event = found[0]
    assert event["factor"] > 1.3 and event["why"] == "its process waits for a core"
    assert (
        f"rank 1 on {event['host']} is {event['factor']} times as slow as the others since 15 steps: its process waits for a core" in said
    )
    measured(
        f"straggler named {event['step'] - began} steps after its core was taken by another process, as {event['factor']} times as slow"
    )
