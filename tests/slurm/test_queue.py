"""What launch/slurm/commands.py says of jobs that run, wait and have ended: Slurm itself is asked."""

import json

import pytest

CODE = """
import dataclasses, json, sys, time
from pathlib import Path
from codemix_megatron.launch.slurm.commands import cancel, job_states, submit

def script(name, body, *options):
    path = Path(sys.argv[1]) / name
    path.write_text("#!/bin/sh\\n" + "".join(f"#SBATCH {o}\\n" for o in ("--output=/dev/null", *options)) + body + "\\n")
    return path

ids = {}
ids["done"] = submit(script("done", "true"))
ids["after"] = submit(script("after", "true"), after=[ids["done"]])
ids["failed"] = submit(script("failed", "exit 3"))
ids["never"] = submit(script("never", "true"), after=[ids["failed"]])
ids["afterwards"] = submit(script("afterwards", "true"), after=[ids["failed"]], kind="afterany")
ids["killed"] = submit(script("killed", "kill -9 $$"))
ids["array"] = submit(script("array", "exit $((SLURM_ARRAY_TASK_ID == 1))", "--array=0-2"))
ids["running"] = submit(script("running", "sleep 100"))
ids["unknown"] = "987654"
deadline = time.monotonic() + 240
while time.monotonic() < deadline:
    states = job_states(ids.values())
    if sum(state.is_active for state in states.values()) == 1 and states[ids["running"]].state == "RUNNING":
        break
    time.sleep(0.2)
cancel([ids["running"], ids["done"]])
print(json.dumps({name: dataclasses.asdict(states[i]) for name, i in ids.items() if i in states}))
"""


@pytest.fixture(scope="module")
def states(launcher, cluster, tmp_path_factory):
    """Name -> state of some jobs."""
    done = cluster.run(launcher.python, "-c", CODE, tmp_path_factory.mktemp("scripts"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_states_of_jobs_are_known_while_they_run_and_when_they_have_ended(states):
    assert {name: (state["state"], state["exit_code"]) for name, state in states.items()} == {
        "done": ("COMPLETED", 0),
        "after": ("COMPLETED", 0),
        "failed": ("FAILED", 3),
        "never": ("CANCELLED", 0),  # what it waits for cannot come
        "afterwards": ("COMPLETED", 0),
        "killed": ("FAILED", 137),
        "array": ("FAILED", 1),
        "running": ("RUNNING", 0),
    }


def test_running_job_says_where_and_which_start(states):
    assert states["running"]["nodes"].startswith("node") and states["running"]["start_count"] == 1
