"""Slurm's client commands, each under a timeout: they wait for ever when the controller is gone."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.errors import LaunchError

__all__ = [
    "JobState",
    "cancel",
    "client",
    "dependents",
    "exclude_nodes",
    "job_details",
    "job_states",
    "node_address",
    "node_names",
    "node_states",
    "partition_details",
    "requeue",
    "submit",
    "wait_for_another",
]

PATIENCE_SECONDS = 60  # for one command; a busy controller takes its time
ACTIVE = (
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "STAGE_OUT",
    "RESIZING",
)
FIELDS = ("JobArrayID", "State", "Reason", "exit_code", "RestartCnt", "NodeList")


@dataclass(frozen=True)
class JobState:
    """What Slurm says of a job; of an array, the state of the task that matters most."""

    state: str  # RUNNING, COMPLETED, FAILED, ...
    reason: str = ""
    nodes: str = ""
    start_count: int = 1
    exit_code: int = 0  # 128 + N when a signal ended it

    @property
    def is_active(self) -> bool:
        """Say whether the job waits, runs or may run again."""
        return self.state in ACTIVE


def submit(script: Path, after=(), kind: str = "afterok", options=()) -> str:
    """Submit a script and return the job's id.

    The job starts when those in `after` have ended as `kind` says (afterok, afterany, afternotok); it is cancelled when they cannot.
    """
    words = ["sbatch", "--parsable", *options]
    if after:
        words += [f"--dependency={kind}:{':'.join(map(str, after))}", "--kill-on-invalid-dep=yes"]
    return client([*words, str(script)], environment=outside_of_jobs()).split(";")[0].strip()


def cancel(ids) -> None:
    """Cancel jobs; those that have ended are skipped."""
    if ids:
        client(["scancel", "--quiet", *map(str, ids)])


def job_states(ids) -> dict[str, JobState]:
    """Return id -> state of the jobs Slurm still knows, also of those that ended; others are absent.

    The controller forgets a job some minutes after its end; where accounting or jobcomp is configured, sacct remembers it.
    """
    ids = [str(i) for i in ids]
    found: dict[str, JobState] = {}
    for job, state in known_to_controller(ids):
        found[job] = weightier(found[job], state) if job in found else state
    missing = [i for i in ids if i not in found]
    return found | (remembered(missing) if missing else {})


def known_to_controller(ids: list[str]):
    """Yield (asked id, state) for each job or array task the controller holds."""
    if not ids:
        return
    layout = ",".join(f"{name}:|" for name in FIELDS)
    listed = client(["squeue", "--states=all", "--noheader", f"--jobs={','.join(ids)}", f"--Format={layout}"], allowed="Invalid job id")
    for line in listed.splitlines():
        job, state, reason, status, restarts, nodes = line.strip().split("|")[:6]
        asked = job if job in ids else job.split("_")[0]
        yield asked, JobState(state, reason, nodes, int(restarts or 0) + 1, exit_code_of(int(status or 0)))


def exit_code_of(status: int) -> int:
    """Return the shell's exit code of a wait status."""
    return 128 + (status & 127) if status & 127 else status >> 8


def weightier(one: JobState, other: JobState) -> JobState:
    """Return the state that says more of an array: a task that runs before one that failed, that before one that is done."""

    def weight(state: JobState) -> int:
        return (state.state == "RUNNING") * 4 or state.is_active * 3 or (state.state != "COMPLETED") * 2

    return max(one, other, key=weight)


def remembered(ids: list[str]) -> dict[str, JobState]:
    """Return what accounting, or else the file of ended jobs, knows."""
    found: dict[str, JobState] = {}
    for words in (["sacct", "--allocations"], ["sacct", "--completion"]):
        fields = "JobID,State,ExitCode,NodeList"
        try:
            listed = client([*words, "--noheader", "--parsable2", f"--jobs={','.join(ids)}", f"--format={fields}"])
        except LaunchError:
            continue  # this cluster keeps no such record
        for line in listed.splitlines():
            job, state, code, nodes = (line.split("|") + [""] * 4)[:4]
            asked = job if job in ids else job.split("_")[0]
            if asked in ids and state:
                number, _, killed_by = code.partition(":")
                ended = JobState(state.split()[0], "", nodes, 1, 128 + int(killed_by) if killed_by.strip("0") else int(number or 0))
                found[asked] = weightier(found[asked], ended) if asked in found else ended
    return found


def job_details(job: str) -> dict[str, str]:
    """Return the fields of `scontrol show job`; empty when the controller does not know the job."""
    shown = client(["scontrol", "--oneliner", "show", "job", job], allowed="Invalid job id").splitlines()[:1]
    return dict(word.split("=", 1) for line in shown for word in line.split() if "=" in word)


def requeue(job: str) -> None:
    """Queue a job again; its batch script is killed for it some seconds later. Raises LaunchError, also where the site bars it."""
    client(["scontrol", "requeue", job])


def dependents(job: str) -> dict[str, str]:
    """Return id -> dependencies of the jobs that wait for one."""
    listed = client(["squeue", "--noheader", "--states=PENDING", "--Format=JobArrayID:|,Dependency:|"])
    found = dict(line.strip().split("|")[:2] for line in listed.splitlines() if "|" in line)
    return {waiting: text for waiting, text in found.items() if re.search(rf":{job}(?:_\*)?(?!\w)", text)}  # of an array 7_*


def wait_for_another(waiting: str, dependencies: str, old: str, new: str) -> None:
    """Have a job that waits for one wait for another one, which does its work instead."""
    plain = re.sub(r"\([^)]*\)", "", dependencies)
    now = re.sub(rf":{old}(?:_\*)?(?!\w)", f":{new}", plain)
    client(["scontrol", "update", f"JobId={waiting}", f"Dependency={now}"])


def partition_details(name: str | None) -> dict[str, str]:
    """Return the fields of `scontrol show partition` of one, or of the default one; empty when it is not there."""
    shown = client(["scontrol", "--oneliner", "show", "partition", *([name] if name else [])], allowed="not found")
    for line in shown.splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if name or fields.get("Default") == "YES":
            return fields
    return {}


def exclude_nodes(job: str, nodes) -> None:
    """Have a job that waits not start on these nodes."""
    client(["scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(nodes)}"])


def node_address(node: str) -> str | None:
    """Return the address Slurm has for a node."""
    shown = client(["scontrol", "--oneliner", "show", "node", node], allowed="not found")
    return next((word.partition("=")[2] for word in shown.split() if word.startswith("NodeAddr=")), None)


def node_names(compressed: str) -> list[str]:
    """Return the names that a list such as node[1-3] stands for, in order."""
    return client(["scontrol", "show", "hostnames", compressed]).split() if compressed else []


def node_states(partition: str | None = None) -> dict[str, str]:
    """Return node -> state, with Slurm's marks (`*` does not answer, `-` planned, ...) kept."""
    words = ["sinfo", "--noheader", "--Node", "--format=%N %T", *([f"--partition={partition}"] if partition else [])]
    return dict(line.split()[:2] for line in client(words).splitlines() if line.strip())


def client(words: list[str], allowed: str | None = None, environment: dict[str, str] | None = None) -> str:
    """Run one of Slurm's commands and return its output; a refusal that holds `allowed` counts as empty."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env=environment or client_environment(),
        )
    except FileNotFoundError:
        raise LaunchError(f"{words[0]}: not found; run this where Slurm's commands are, such as a login node", exit_code=2) from None
    except subprocess.TimeoutExpired:
        raise LaunchError(f"{words[0]}: no answer within {PATIENCE_SECONDS} s; is Slurm's controller up? (scontrol ping)") from None
    if done.returncode and not (allowed and allowed in done.stderr):
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise LaunchError(f"{' '.join(words)}: {said}", exit_code=2 if words[0] == "sbatch" else 1)
    return "" if done.returncode else done.stdout


def client_environment() -> dict[str, str]:
    """Return this environment without what would change what the commands print or submit."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SINFO_", "SACCT_", "SLURM_TIME_FORMAT"))}


def outside_of_jobs() -> dict[str, str]:
    """Return the environment without the variables Slurm sets for a job, which a job submitted from inside it would take for its own."""
    return {name: value for name, value in client_environment().items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
