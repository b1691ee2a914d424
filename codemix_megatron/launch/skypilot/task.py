"""A training job as a SkyPilot task file: `sky launch` finds machines for it on any cloud or cluster."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codemix_megatron.launch.joined_ranks import MASTER_PORT, NodeCommand
from codemix_megatron.launch.settings_file import read_settings
from codemix_megatron.launch.variables import read_variables, secret_variables, texts_reader
from codemix_megatron.recipe.fields import option

__all__ = ["Machines", "read_machines", "render_task"]

# What SkyPilot tells each node: its number, how many there are, and all addresses, a line each.
NODES, NODE_RANK, MASTER = "$SKYPILOT_NUM_NODES", "$SKYPILOT_NODE_RANK", "$MASTER_ADDR"


@dataclass(frozen=True)
class Machines:
    """What machines a task asks for, and what is done on them first."""

    accelerators: str | None = option("accelerators of each node, as H100:8", None)
    infra: str | None = option("where to look, as aws/us-east-1, k8s or slurm (default: wherever there are some)", None)
    instance_type: str | None = option("kind of machine, instead of its accelerators", None)
    image_id: str | None = option("image, such as docker:registry/codemix:1", None)
    cpus: str | None = option("CPUs of each node: 16, or 16+", None)
    memory: str | None = option("GiB of memory of each node: 256, or 256+", None)
    disk_size: int | None = option("GB of each node's disk", None)
    use_spot: bool = option("take machines that may be taken away; `sky jobs launch` starts again from the last checkpoint", False)
    nodes: int | None = option("nodes (default: the fewest that hold the recipe's layout)", None)
    ranks_per_node: int | None = option("ranks on each node (default: one per accelerator, or one)", None)
    file_mounts: dict[str, str] = option(
        "path on the nodes -> bucket or folder; recipe, corpora and runs have to be in one",
        factory=dict,
        reader=texts_reader("a mapping of paths, such as {/data: s3://mine/data}"),
    )
    environment: dict[str, str] = option("environment variables to set", factory=dict, reader=read_variables)
    secrets: tuple[str, ...] = option("variables whose values `sky launch --secret NAME` gives", ())
    setup: tuple[str, ...] = option("lines of bash that install what is needed, once for each node", ())
    python: str = option("interpreter on the nodes", "python")

    @property
    def ranks_on_a_node(self) -> int:
        """Ranks that one node gets."""
        count = (self.accelerators or "").partition(":")[2]
        return self.ranks_per_node or (int(count) if count else 1)


def read_machines(path) -> Machines:
    """Read a file of machines; raises RecipeError with all its faults at once."""
    return read_settings(Machines, path, machine_faults)


def machine_faults(machines: Machines) -> list[str]:
    """Return one line per fault of values that have the right type."""
    counts = {name: getattr(machines, name) for name in ("nodes", "ranks_per_node", "disk_size")}
    faults = [f"{name}: found {count}, must be at least 1" for name, count in counts.items() if count is not None and count < 1]
    kind, colon, count = (machines.accelerators or "x").partition(":")
    if not kind or (colon and not count.isdigit()):
        faults.append(f"accelerators: found {machines.accelerators!r}, must be a kind and a number, such as H100:8")
    return faults + [f"environment.{name}: is a secret; name it under secrets" for name in secret_variables(machines.environment)]


def render_task(recipe: Path, run: Path, name: str, num_nodes: int, machines: Machines) -> dict[str, Any]:
    """Return the task."""
    named = ("accelerators", "infra", "instance_type", "image_id", "cpus", "memory", "disk_size")
    resources = {key: value for key in named if (value := getattr(machines, key)) is not None}
    task = {
        "name": name,
        "num_nodes": num_nodes,
        "resources": resources | ({"use_spot": True} if machines.use_spot else {}),
        "file_mounts": machines.file_mounts,
        "envs": machines.environment,
        "secrets": dict.fromkeys(machines.secrets),
        "setup": "\n".join(machines.setup),
        "run": run_script(recipe, run, machines),
    }
    return {key: value for key, value in task.items() if value}


def run_script(recipe: Path, run: Path, machines: Machines) -> str:
    """Return the lines of bash that each node runs."""
    command = NodeCommand(machines.python, str(recipe), str(run), machines.ranks_on_a_node, NODES, NODE_RANK, MASTER)
    words = " ".join(word if "$SKYPILOT" in word or MASTER in word else shlex.quote(word) for word in command.words)
    lines = ["set -e", 'export MASTER_ADDR="$(echo "$SKYPILOT_NODE_IPS" | head -n1)"', f"export MASTER_PORT={MASTER_PORT}"]
    if machines.ranks_on_a_node == 1:
        lines.append(f'export RANK="{NODE_RANK}" WORLD_SIZE="{NODES}" LOCAL_RANK=0 LOCAL_WORLD_SIZE=1')
    return "\n".join([*lines, f"exec {words}", ""])
