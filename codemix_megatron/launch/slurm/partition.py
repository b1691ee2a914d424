"""What a partition allows, asked before a job is submitted: one that asks for more is refused by some sites and waits for ever on others."""

from dataclasses import dataclass

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.slurm.commands import partition_details
from codemix_megatron.launch.slurm.job_facts import seconds_of
from codemix_megatron.launch.slurm.site import Site

__all__ = ["PartitionLimits", "limits_of", "refuse_beyond_limits"]


@dataclass(frozen=True)
class PartitionLimits:
    """One partition, as `scontrol show partition` has it."""

    name: str
    most_seconds: float  # infinite without a limit
    most_nodes: float
    nodes: int  # that belong to it
    state: str


def limits_of(fields: dict[str, str]) -> PartitionLimits:
    """Read the fields of `scontrol show partition`."""
    most_nodes = fields.get("MaxNodes", "UNLIMITED")
    return PartitionLimits(
        fields.get("PartitionName", "?"),
        seconds_of(fields.get("MaxTime", "")),
        float(most_nodes) if most_nodes.isdigit() else float("inf"),
        int(fields.get("TotalNodes", 0)),
        fields.get("State", "UP"),
    )


def refuse_beyond_limits(site: Site, nodes: int) -> None:
    """Raise LaunchError when the site's partition (or the cluster's default one) never lets such a job start."""
    fields = partition_details(site.partition)
    if not fields:
        return  # sbatch says what is wrong with a partition that is not there
    faults = limit_faults(limits_of(fields), site.time_limit_hours, nodes)
    if faults:
        raise LaunchError(f"partition {fields.get('PartitionName')}: {'; '.join(faults)}", exit_code=2)


def limit_faults(limits: PartitionLimits, hours: float | None, nodes: int) -> list[str]:
    """Return one line for each limit that a job would break."""
    faults = []
    if hours is not None and hours * 3600 > limits.most_seconds:
        most = limits.most_seconds / 3600
        faults.append(
            f"time_limit_hours: {hours:g} is more than its MaxTime of {most:g} hours, so the job would wait for ever; set at most {most:g}:"
            " a job that reaches its limit saves, is queued again and resumes"
        )
    most_nodes = min(limits.most_nodes, limits.nodes or float("inf"))
    if nodes > most_nodes:
        faults.append(
            f"{nodes} nodes are asked for, a job may have {most_nodes:g} there; choose a layout of fewer ranks, or another partition"
        )
    if limits.state in ("DOWN", "INACTIVE"):
        faults.append(f"it is {limits.state.lower()} and starts no jobs; choose another partition")
    return faults
