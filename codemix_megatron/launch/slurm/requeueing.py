"""Having a job run again: queued again by Slurm, or where a site bars that another one that starts when it has ended."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.slurm.commands import dependents, requeue, submit, wait_for_another
from codemix_megatron.records.atomic import read_json, write_json
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["hand_over_dependents", "requeue_refusal", "submit_command_again", "submit_next"]

TRIES, SECONDS_BETWEEN_TRIES = 6, 15  # while the controller restarts
BARRED = ("disabled", "denied", "not permitted", "Invalid job id")  # refusals that do not change by asking again


def requeue_refusal(job: str) -> str | None:
    """Queue a job again; return why Slurm refuses to, or None. A controller that restarts is asked again."""
    for tries_left in range(TRIES - 1, -1, -1):
        try:
            requeue(job)
            return None
        except LaunchError as fault:
            if not tries_left or any(words in str(fault) for words in BARRED):
                return str(fault)
            time.sleep(SECONDS_BETWEEN_TRIES)
    return None


def submit_next(run: RunFolder, job: str, excluded: list[str]) -> str:
    """Submit a run's script to start when a job has ended, note it as the run's job, and return its id."""
    script = run.launch / "job.sbatch"
    following = submit(script, [job], "afterany", [f"--exclude={','.join(excluded)}"] if excluded else [])
    write_json(run.launch / "job.json", {"id": following, "log": str(run.launch / f"job-{following}.log"), "script": str(script)})
    return following


def submit_command_again(folder: Path, job: str) -> str:
    """Submit the script of a job that runs commands to start when it has ended, note it as the one at work, and return its id.

    Of an array only the task is submitted again: JOB_TASK is followed by a job of that one task.
    """
    number, _, task = job.partition("_")
    for path in sorted(folder.glob("*.json")):
        noted = read_json(path)
        if isinstance(noted, dict) and noted.get("id") == number and "script" in noted:
            break
    else:
        raise LaunchError(f"{folder}: nothing here says which script job {number} was submitted with")
    following = submit(Path(noted["script"]), [job], "afterany", [f"--array={task}"] if task else [])
    own = path.with_name(f"{path.stem}-{following}.json") if task else path  # the array's own note stays
    log = Path(noted["log"])
    write_json(own, {**noted, "id": following, "log": str(log.with_name(log.name.replace(number, following)))})
    failures = folder / f"failures-{job}.jsonl"
    if failures.exists():  # they go on being counted
        shutil.copy(failures, folder / f"failures-{following}{f'_{task}' if task else ''}.jsonl")
    return following


def hand_over_dependents(job: str, following: str, say: Callable[[str], None]) -> None:
    """Have jobs that wait for one wait for the one that goes on; those that wait for an array, for both."""
    array, _, task = job.partition("_")
    try:
        for waiting, dependencies in dependents(array).items():
            if waiting != following:
                wait_for_another(waiting, dependencies, array, f"{array}:{following}" if task else following)
    except LaunchError as fault:
        say(f"warning: jobs that wait for this one cannot be made to wait for job {following}: {fault}")
