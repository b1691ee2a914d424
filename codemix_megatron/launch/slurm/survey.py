"""What Slurm says of a cluster, as a site file to begin with: partitions, GPUs, cores, memory, limits, and what jobs may do."""

import re
import sys
from dataclasses import dataclass

from codemix_megatron.launch.slurm.commands import client
from codemix_megatron.launch.slurm.job_facts import seconds_of

__all__ = ["Cluster", "Partition", "ask_cluster", "choose_partition", "site_text"]

GPUS = re.compile(r"gpu:(?:(?P<type>[^:(,]+):)?(?P<count>\d+)")
SETTING = re.compile(r"^(\S+)\s*=\s?(.*?)\s*$")
SAVE_SECONDS = 600
MEMORY_SHARE = 0.95  # of what Slurm has for a node; some is kept for the system


@dataclass(frozen=True)
class Partition:
    """One partition: its nodes, and what the smallest kind of them has."""

    name: str
    is_default: bool
    nodes: int
    cpus: int
    memory_mib: int
    gpus: int
    gpu_type: str | None
    most_seconds: float
    is_up: bool

    def describe(self) -> str:
        """Return one line to choose by."""
        gpus = f", {self.gpus} GPUs{f' ({self.gpu_type})' if self.gpu_type else ''}" if self.gpus else ""
        limit = "no time limit" if self.most_seconds == float("inf") else f"at most {self.most_seconds / 3600:g} hours"
        return f"{self.name}: {self.nodes} nodes of {self.cpus} CPUs{gpus}, {limit}{'' if self.is_up else ', down'}"


@dataclass(frozen=True)
class Cluster:
    """All of it."""

    settings: dict[str, str]  # of `scontrol show config`
    partitions: tuple[Partition, ...]


def ask_cluster() -> Cluster:
    """Ask sinfo and scontrol; raises LaunchError where they are missing or do not answer."""
    shown = client(["scontrol", "show", "config"])
    listed = client(["sinfo", "--noheader", "--exact", "--format=%P|%D|%c|%m|%G|%l|%a"])
    return Cluster(read_settings(shown), read_partitions(listed))


def read_settings(shown: str) -> dict[str, str]:
    """Return the settings of `scontrol show config`."""
    return {match[1]: match[2] for line in shown.splitlines() if (match := SETTING.match(line))}


def read_partitions(listed: str) -> tuple[Partition, ...]:
    """Return the partitions of sinfo's lines; of several kinds of node in one, numbers that all of them have."""
    found: dict[str, Partition] = {}
    for line in listed.splitlines():
        name, nodes, cpus, memory, gres, limit, state = (line.strip().split("|") + [""] * 7)[:7]
        gpus = list(GPUS.finditer(gres))
        seconds = float("inf") if limit == "infinite" else seconds_of(whole_duration(limit))
        kind = gpus[0]["type"] if len(gpus) == 1 else None
        one = Partition(
            name.rstrip("*"), name.endswith("*"), int(nodes), least(cpus), least(memory), sum(int(g["count"]) for g in gpus), kind, seconds,
            state.startswith("up"),
        )  # fmt: skip
        found[one.name] = both(found[one.name], one) if one.name in found else one
    return tuple(found.values())


def both(one: Partition, other: Partition) -> Partition:
    """Return a partition of two kinds of node: what a job can ask for on either."""
    return Partition(
        one.name, one.is_default, one.nodes + other.nodes, min(one.cpus, other.cpus), min(one.memory_mib, other.memory_mib),
        min(one.gpus, other.gpus), one.gpu_type if one.gpu_type == other.gpu_type else None, one.most_seconds, one.is_up,
    )  # fmt: skip


def least(count: str) -> int:
    """Return a number of sinfo; `64+` stands for 64 or more."""
    return int(count.rstrip("+") or 0)


def whole_duration(limit: str) -> str:
    """Return MM:SS as 0:MM:SS."""
    return limit if limit.count(":") == 2 else f"0:{limit}"


def choose_partition(cluster: Cluster, name: str | None = None) -> Partition | None:
    """Return the one of that name; without a name that with the most GPUs on a node, the default one among equals."""
    if name:
        return next((p for p in cluster.partitions if p.name == name), None)
    up = [p for p in cluster.partitions if p.is_up]
    return max(up, key=lambda p: (p.gpus, p.is_default, p.nodes), default=None)


def site_text(cluster: Cluster, chosen: Partition) -> str:
    """Return a site file with what was found, and as comments what else could stand there."""
    settings = cluster.settings
    ranks = chosen.gpus or 1
    version, name = settings.get("SLURM_VERSION", "?"), settings.get("ClusterName", "?")
    lines = [f"# Cluster {name}, Slurm {version}, as `codemix site init` found it. Every key: codemix launch --site-keys"]
    lines += [f"# {partition.describe()}" for partition in cluster.partitions]
    lines += [f"partition: {chosen.name}"]
    lines += ["# account: my-project            # where jobs are charged to one", "# qos: normal"]
    if chosen.gpus:
        lines += [f"gpus_per_node: {chosen.gpus}                  # a job asks for one for each of its ranks on a node"]
        lines += [f"gpu_type: {chosen.gpu_type}"] if chosen.gpu_type else []
        lines += ["# gpu_bind: closest              # without it each rank sees all GPUs of its job on the node"]
    else:
        lines += ["ranks_per_node: 1"]
    lines += [f"cpus_per_rank: {max(1, chosen.cpus // ranks)}                 # of {chosen.cpus} CPUs of a node"]
    if chosen.memory_mib > 1:
        lines += [f"memory_per_rank: {int(chosen.memory_mib * MEMORY_SHARE / ranks)}M          # of {chosen.memory_mib} MiB of a node"]
    lines += limit_lines(chosen)
    lines += [
        f"# Jobs are {'' if settings.get('JobRequeue') != '0' else 'not '}queued again by default (JobRequeue); where they may not be,"
    ]
    lines += ["# codemix launch submits another one that resumes."]
    lines += ["# network_interface: ib0         # where nodes have several: that by which they reach each other (ip address)"]
    lines += [f"python: {sys.executable}       # has to be on a disk that nodes see"]
    lines += other_kinds(cluster, chosen)
    return "\n".join([*lines, ""])


def limit_lines(chosen: Partition) -> list[str]:
    """Return the lines on time."""
    if chosen.most_seconds == float("inf"):
        return ["# time_limit_hours: 24            # this partition has no limit; others get the nodes in between", "save_seconds: 300"]
    hours = chosen.most_seconds / 3600
    save = int(max(60, min(SAVE_SECONDS, chosen.most_seconds / 4)))
    return [f"time_limit_hours: {hours:g}           # MaxTime; a job saves before it and is queued again", f"save_seconds: {save}"]


def other_kinds(cluster: Cluster, chosen: Partition) -> list[str]:
    """Return the lines for jobs that need no GPU, where a partition without is there."""
    plain = [p for p in cluster.partitions if p.is_up and not p.gpus and p.name != chosen.name]
    if not chosen.gpus or not plain:
        return []
    best = max(plain, key=lambda p: p.nodes)
    limit = "" if best.most_seconds == float("inf") else f", time_limit_hours: {best.most_seconds / 3600:g}"
    return [
        f"prepare: {{partition: {best.name}, gpus_per_node: 0, cpus_per_rank: {min(8, best.cpus)}, memory_per_rank: 16G{limit}}}",
    ]
