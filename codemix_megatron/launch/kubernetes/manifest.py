"""A training job as a Kubernetes manifest: a JobSet, or a PyTorchJob of Kubeflow's training operator."""

import re
from pathlib import Path
from typing import Any

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.joined_ranks import MASTER_PORT, NodeCommand
from codemix_megatron.launch.kubernetes.cluster import NAME, Cluster

__all__ = ["job_name", "render_manifest"]

COMPLETION_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
CONTAINER, PORT = "pytorch", "pytorchjob-port"  # names that the training operator looks for
LONGEST_NAME = 50  # pods are called NAME-node-0-N, which has to be a label too


def render_manifest(recipe: Path, run: Path, name: str, num_nodes: int, cluster: Cluster, paths: list[Path]) -> dict[str, Any]:
    """Return the manifest; raises LaunchError for one of `paths`, what ranks read or write, that no volume holds."""
    refuse_outside(paths, cluster)
    named = job_name(name)
    metadata: dict[str, Any] = {"name": named, **({"namespace": cluster.namespace} if cluster.namespace else {})}
    if cluster.queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": cluster.queue}
    kind = job_set if cluster.kind == "JobSet" else pytorch_job
    return {**kind(named, recipe, run, num_nodes, cluster), "metadata": metadata}


def job_name(name: str) -> str:
    """Return a run's name as Kubernetes allows it; raises LaunchError for one that is too long."""
    named = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not NAME.fullmatch(named) or len(named) > LONGEST_NAME:
        raise LaunchError(
            f"{name!r}: a job's name has at most {LONGEST_NAME} lower-case letters, digits and -; rename the run's folder", exit_code=2
        )
    return named


def refuse_outside(paths: list[Path], cluster: Cluster) -> None:
    """Raise LaunchError for what pods would not see."""
    mounts = [Path(volume.mount) for volume in cluster.volumes]
    outside = [str(path) for path in paths if not any(path.is_relative_to(mount) for mount in mounts)]
    if outside:
        there = ", ".join(map(str, mounts)) or "none"
        raise LaunchError(
            f"{', '.join(outside)}: in no volume of the cluster's file (mounts: {there}), so pods would not see it", exit_code=2
        )


def job_set(name: str, recipe: Path, run: Path, num_nodes: int, cluster: Cluster) -> dict[str, Any]:
    """Return a JobSet of one job whose pods are the nodes; a failed pod starts all again."""
    master = f"{name}-node-0-0.{name}"
    rank: dict[str, Any] = {"valueFrom": {"fieldRef": {"fieldPath": COMPLETION_INDEX}}}
    told: list[tuple[str, dict[str, Any]]] = [
        ("MASTER_ADDR", {"value": master}),
        ("MASTER_PORT", {"value": str(MASTER_PORT)}),
        ("NODE_RANK", rank),
    ]
    if cluster.ranks_on_a_node == 1:
        told += [("RANK", rank), ("WORLD_SIZE", {"value": str(num_nodes)}), *one_rank_here()]
    command = NodeCommand(cluster.python, str(recipe), str(run), cluster.ranks_on_a_node, str(num_nodes), "$(NODE_RANK)", "$(MASTER_ADDR)")
    pods = {"restartPolicy": "Never", **pod(command, [{"name": n, **value} for n, value in told], cluster)}
    job = {"parallelism": num_nodes, "completions": num_nodes, "completionMode": "Indexed", "backoffLimit": 0, "template": {"spec": pods}}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "spec": {
            "failurePolicy": {"maxRestarts": cluster.max_restarts},
            "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}],
        },
    }


def pytorch_job(name: str, recipe: Path, run: Path, num_nodes: int, cluster: Cluster) -> dict[str, Any]:
    """Return a PyTorchJob, whose operator sets MASTER_ADDR, MASTER_PORT, WORLD_SIZE and RANK: of pods, which are nodes here."""
    command = NodeCommand(
        cluster.python, str(recipe), str(run), cluster.ranks_on_a_node, "$(WORLD_SIZE)", "$(RANK)", "$(MASTER_ADDR)", "$(MASTER_PORT)"
    )
    told = [{"name": n, **value} for n, value in (one_rank_here() if cluster.ranks_on_a_node == 1 else [])]
    replica = {"restartPolicy": "OnFailure", "template": {"spec": pod(command, told, cluster)}}
    workers = {"Worker": {"replicas": num_nodes - 1, **replica}} if num_nodes > 1 else {}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "spec": {
            "runPolicy": {"backoffLimit": cluster.max_restarts, "cleanPodPolicy": "Running"},
            "pytorchReplicaSpecs": {"Master": {"replicas": 1, **replica}, **workers},
        },
    }


def one_rank_here() -> list[tuple[str, dict[str, Any]]]:
    """Return what says that a pod's rank is alone on its node."""
    return [("LOCAL_RANK", {"value": "0"}), ("LOCAL_WORLD_SIZE", {"value": "1"})]


def pod(command: NodeCommand, told: list[dict], cluster: Cluster) -> dict[str, Any]:
    """Return the pod of one node."""
    interface = cluster.network_interface
    named = {"NCCL_SOCKET_IFNAME": interface, "GLOO_SOCKET_IFNAME": interface} if interface else {}
    variables = [{"name": n, "value": value} for n, value in {**named, **cluster.environment}.items()]
    amounts = {"cpu": cluster.cpus_per_node, "memory": cluster.memory_per_node}
    amounts[cluster.gpu_resource] = str(cluster.gpus_per_node) if cluster.gpus_per_node else None
    asked = {what: amount for what, amount in amounts.items() if amount}
    container = {
        "name": CONTAINER,
        "image": cluster.image,
        "command": command.words,
        "env": [*told, *variables],
        "ports": [{"containerPort": MASTER_PORT, "name": PORT, "protocol": "TCP"}],
        "volumeMounts": [*mounts(cluster), {"name": "shm", "mountPath": "/dev/shm"}],
        **({"resources": {"requests": asked, "limits": asked}} if asked else {}),
        **({"envFrom": [{"secretRef": {"name": secret}} for secret in cluster.secrets]} if cluster.secrets else {}),
    }
    return {
        "terminationGracePeriodSeconds": cluster.save_seconds,
        **({"nodeSelector": cluster.node_selector} if cluster.node_selector else {}),
        **({"serviceAccountName": cluster.service_account} if cluster.service_account else {}),
        "containers": [container],
        "volumes": [*volumes(cluster), {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": cluster.shared_memory}}],
    }


def mounts(cluster: Cluster) -> list[dict[str, Any]]:
    """Return where a container sees the volumes."""
    return [
        {"name": f"volume-{i}", "mountPath": volume.mount, **({"readOnly": True} if volume.read_only else {})}
        for i, volume in enumerate(cluster.volumes)
    ]


def volumes(cluster: Cluster) -> list[dict[str, Any]]:
    """Return what the volumes are."""
    return [
        {
            "name": f"volume-{i}",
            **({"persistentVolumeClaim": {"claimName": volume.claim}} if volume.claim else {"hostPath": {"path": volume.host_path}}),
        }
        for i, volume in enumerate(cluster.volumes)
    ]
