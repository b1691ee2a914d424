"""What a Kubernetes cluster wants to know of a job, read from a YAML file: image, volumes, devices, queue."""

import re
from dataclasses import dataclass
from typing import Literal

from codemix_megatron.launch.settings_file import read_settings
from codemix_megatron.launch.variables import read_variables, secret_variables, texts_reader
from codemix_megatron.recipe.fields import option

__all__ = ["Cluster", "Volume", "read_cluster"]

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123 label
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMGTPE]i?|k)?")

read_labels = texts_reader("a mapping of texts, such as {node.kubernetes.io/instance-type: p5.48xlarge}; quote numbers")


@dataclass(frozen=True)
class Volume:
    """Storage that all pods see; recipe, corpora and runs lie in it under the paths they have here."""

    mount: str = option("absolute path, the same here and in the pods")
    claim: str | None = option("PersistentVolumeClaim to mount there (ReadWriteMany)", None)
    host_path: str | None = option("folder of every node to mount there", None)
    read_only: bool = option("only read it", False)


@dataclass(frozen=True)
class Cluster:
    """One cluster, or one part of it."""

    image: str = option("container image with this package, such as registry/codemix:1")
    kind: Literal["JobSet", "PyTorchJob"] = option("JobSet (jobset.x-k8s.io), or PyTorchJob of Kubeflow's training operator", "JobSet")
    namespace: str | None = option("namespace of the job", None)
    volumes: tuple[Volume, ...] = option("storage that all pods see", ())
    nodes: int | None = option("nodes, one pod each (default: the fewest that hold the recipe's layout)", None)
    ranks_per_node: int | None = option("ranks in each pod (default: one per GPU, or one)", None)
    gpus_per_node: int = option("GPUs of each pod", 0)
    gpu_resource: str = option("what the cluster calls them", "nvidia.com/gpu")
    cpus_per_node: str | None = option("CPUs of each pod, as Kubernetes writes them: 16, 500m", None)
    memory_per_node: str | None = option("memory of each pod: 256Gi", None)
    shared_memory: str = option("size of /dev/shm, which NCCL and loaders use", "16Gi")
    environment: dict[str, str] = option("environment variables to set", factory=dict, reader=read_variables)
    secrets: tuple[str, ...] = option("Secrets whose keys become environment variables", ())
    network_interface: str | None = option("interface for NCCL and gloo (default: eth0's address, as found)", None)
    node_selector: dict[str, str] = option("labels that nodes must have", factory=dict, reader=read_labels)
    queue: str | None = option("Kueue's queue", None)
    service_account: str | None = option("service account of the pods", None)
    save_seconds: int = option("seconds between the signal to leave and the kill (terminationGracePeriodSeconds)", 300)
    max_restarts: int = option("times a failed job is started again from its last checkpoint", 10)
    python: str = option("interpreter in the image", "python")

    @property
    def ranks_on_a_node(self) -> int:
        """Ranks of one pod."""
        return self.ranks_per_node or self.gpus_per_node or 1


def read_cluster(path) -> Cluster:
    """Read a cluster's file; raises RecipeError with all its faults at once."""
    return read_settings(Cluster, path, cluster_faults)


def cluster_faults(cluster: Cluster) -> list[str]:
    """Return one line per fault of values that have the right type."""
    counts = {name: getattr(cluster, name) for name in ("nodes", "ranks_per_node", "save_seconds")}
    faults = [f"{name}: found {count}, must be at least 1" for name, count in counts.items() if count is not None and count < 1]
    faults += [
        f"{name}: found {getattr(cluster, name)}, must be at least 0"
        for name in ("gpus_per_node", "max_restarts")
        if getattr(cluster, name) < 0
    ]
    if 0 < cluster.gpus_per_node < cluster.ranks_on_a_node:
        faults.append(f"ranks_per_node: {cluster.ranks_per_node} ranks do not fit on {cluster.gpus_per_node} GPUs; each rank needs its own")
    for name in ("cpus_per_node", "memory_per_node", "shared_memory"):
        if (text := getattr(cluster, name)) is not None and not QUANTITY.fullmatch(text):
            faults.append(f"{name}: found {text!r}, must be a quantity such as 16, 500m or 256Gi")
    named = {"namespace": cluster.namespace, "queue": cluster.queue, "service_account": cluster.service_account}
    named |= {f"secrets[{i}]": name for i, name in enumerate(cluster.secrets)}
    named |= {f"volumes[{i}].claim": volume.claim for i, volume in enumerate(cluster.volumes)}
    faults += [
        f"{key}: found {name!r}, must be lower-case letters, digits and -"
        for key, name in named.items()
        if name is not None and not NAME.fullmatch(name)
    ]
    faults += [f"environment.{name}: is a secret; name it under secrets" for name in secret_variables(cluster.environment)]
    for i, volume in enumerate(cluster.volumes):
        if (volume.claim is None) == (volume.host_path is None):
            faults.append(f"volumes[{i}]: needs a claim or a host_path, one of them")
        if not volume.mount.startswith("/"):
            faults.append(f"volumes[{i}].mount: found {volume.mount!r}, must be an absolute path")
    return faults
