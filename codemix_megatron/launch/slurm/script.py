"""Batch scripts: a site's options and environment, then one line of Python that does the rest."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.slurm.site import MEMORY, Apptainer, Container, Site

__all__ = ["ARRAY_TASK", "Job", "render_script"]

ARRAY_TASK = "$SLURM_ARRAY_TASK_ID"
WHO_DECIDES = """\
# Rendered by `codemix launch`. Nothing is decided in bash: codemix_megatron/launch/slurm/batch.py says where ranks meet, follows
# them, passes signals on, and decides whether the job is done, runs again or is given up."""


@dataclass(frozen=True)
class Job:
    """What a script asks Slurm for, and the commands it runs one after the other, each under launch/slurm/batch.py."""

    name: str
    log: Path  # %j, %A and %a stand for the job's and the array task's number
    nodes: int
    ranks_per_node: int
    commands: tuple[tuple[str, ...], ...]  # words after `python -m codemix_megatron`
    follow: tuple[str, ...]  # options of `python -m codemix_megatron.launch.slurm.batch`
    gpus_per_node: int = 0
    array_tasks: int | None = None
    spare_nodes: int = 0  # at most so many more, on which a start that failed goes on


def render_script(job: Job, site: Site) -> str:
    """Return the text of a batch script."""
    options = [f"#SBATCH {one_line(option)}" for option in sbatch_options(job, site)]
    lines = [*site.setup, *(f"module load {shlex.quote(name)}" for name in site.modules)]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables(site).items()]
    python = shlex.quote(site.batch_python or sys.executable)
    batch = f"{python} -m codemix_megatron.launch.slurm.batch {words_of(job.follow)} --"
    commands = [f"{batch} \\\n    {words_of(srun_words(job, site))} \\\n    {task_command(command, job, site)}" for command in job.commands]
    lines += [*(f"{command} || exit" for command in commands[:-1]), f"exec {commands[-1]}"]
    return "\n".join(["#!/usr/bin/env bash", *options, "", WHO_DECIDES, *lines, ""])


def sbatch_options(job: Job, site: Site) -> list[str]:
    """Return what stands behind #SBATCH, one option each."""
    named = {
        "job-name": job.name,
        "output": f"{str(job.log.parent).replace('%', '%%')}/{job.log.name}",  # of folders Slurm would take %j, %a, %u for its own
        "nodes": f"{job.nodes}-{job.nodes + job.spare_nodes}" if job.spare_nodes else job.nodes,
        **tasks(job, site),
        "gres": gpus(job, site),
        "mem": memory(job, site),
        "time": in_minutes(site.time_limit_hours),
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "exclude": ",".join(site.exclude) or None,
        "array": f"0-{job.array_tasks - 1}" if job.array_tasks else None,
        "signal": f"B:USR1@{site.save_seconds}",
        "open-mode": "append",
    }
    return [
        *(f"--{name}={shlex.quote(str(value))}" for name, value in named.items() if value is not None),
        "--requeue",
        *(["--no-kill"] if job.spare_nodes else []),
        *site.sbatch,
    ]


def tasks(job: Job, site: Site) -> dict[str, int | None]:
    """Return how many tasks a node gets, and their cores.

    Measured on Slurm 22.05: of a range of nodes a job that names its tasks on a node gets the fewest. One with spare nodes has one task
    on each instead, with the cores of all ranks, and srun divides them.
    """
    if job.spare_nodes:
        return {"cpus-per-task": job.ranks_per_node * (site.cpus_per_rank or 1)}
    return {"ntasks-per-node": job.ranks_per_node, "cpus-per-task": site.cpus_per_rank}


def gpus(job: Job, site: Site) -> str | None:
    """Return the GPUs to ask for on each node."""
    kind = f"{site.gpu_type}:" if site.gpu_type else ""
    return f"gpu:{kind}{job.gpus_per_node}" if job.gpus_per_node else None


def memory(job: Job, site: Site) -> str | None:
    """Return the memory to ask for on each node; a job on a part of a node leaves the rest of it to others."""
    if site.memory_per_rank:
        size = MEMORY.fullmatch(site.memory_per_rank)
        return f"{int(size[1]) * job.ranks_per_node}{size[2]}" if size else None
    takes_all = site.memory_per_node == "0" and job.ranks_per_node < site.ranks_on_a_node
    return None if takes_all else site.memory_per_node


def one_line(option: str) -> str:
    """Return an option of sbatch; raises LaunchError for one that would end its line, for what follows would be run as bash."""
    if any(not character.isprintable() for character in option):
        raise LaunchError(f"{option!r}: holds a control character, such as a line break; give the run another folder", exit_code=2)
    return option


def in_minutes(hours: float | None) -> int | None:
    """Return hours as the whole minutes that Slurm counts in."""
    return None if hours is None else max(1, round(hours * 60))


def variables(site: Site) -> dict[str, str]:
    """Return the environment variables a script sets."""
    interface = site.network_interface
    named = {"NCCL_SOCKET_IFNAME": interface, "GLOO_SOCKET_IFNAME": interface} if interface else {}
    return {**named, **site.environment}


def srun_words(job: Job, site: Site) -> list[str]:
    """Return srun's words: one task per rank; the first that fails ends all, and none outlives the first by a minute."""
    total = job.nodes * job.ranks_per_node
    words = ["srun", f"--nodes={job.nodes}", f"--ntasks={total}", "--kill-on-bad-exit=1", "--wait=60"]
    if not any(option.startswith("--export") for option in site.srun):
        words.append("--export=ALL")  # else ranks of a site that submits with --export=NONE are not told where they meet
    words += [f"--gpu-bind={site.gpu_bind}"] if site.gpu_bind and job.gpus_per_node else []
    cores = site.cpus_per_rank or (1 if job.spare_nodes else None)
    words += [f"--cpus-per-task={cores}"] if cores else []  # since 22.05 srun does not inherit it
    words += [f"--ntasks-per-node={job.ranks_per_node}"] if job.spare_nodes else []
    return [*words, *container_words(site.container), *site.srun]


def container_words(container: Container | None) -> list[str]:
    """Return the options that pyxis adds to srun."""
    if container is None:
        return []
    words = [f"--container-image={container.image}"]
    words += [f"--container-mounts={','.join(container.mounts)}"] if container.mounts else []
    words += [f"--container-workdir={container.workdir}"] if container.workdir else []
    words.append("--container-writable" if container.writable else "--container-readonly")
    words.append("--container-mount-home" if container.mount_home else "--no-container-mount-home")
    return words


def task_command(command: tuple[str, ...], job: Job, site: Site) -> str:
    """Return the command each task runs; a command that is no rank gets no variables of a step."""
    python = site.python or ("python" if site.is_contained else sys.executable)
    alone = [] if job.follow[0] == "train" else ["env", "-u", "SLURM_STEP_ID"]
    return words_of([*alone, *apptainer_words(job, site.apptainer), python, "-m", "codemix_megatron", *command])


def apptainer_words(job: Job, apptainer: Apptainer | None) -> list[str]:
    """Return the command before that of each task, which then runs inside an image."""
    if apptainer is None:
        return []
    words = [apptainer.program, "exec", *(["--nv"] if job.gpus_per_node else [])]
    words += [word for bind in apptainer.binds for word in ("--bind", bind)]
    words += ["--pwd", apptainer.workdir] if apptainer.workdir else []
    words += ["--writable-tmpfs"] if apptainer.writable else []
    words += [] if apptainer.mount_home else ["--no-home"]
    return [*words, *apptainer.options, apptainer.image]


def words_of(words) -> str:
    """Quote words for bash; the number of an array task is left to bash."""
    return " ".join(quoted(str(word)) for word in words)


def quoted(word: str) -> str:
    """Quote one word; nothing of it but the number of an array task is expanded."""
    if ARRAY_TASK not in word:
        return shlex.quote(word)
    return f'"{ARRAY_TASK}"'.join(part and shlex.quote(part) for part in word.split(ARRAY_TASK))
