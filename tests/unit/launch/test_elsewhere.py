"""Kubernetes and SkyPilot: what is printed is valid by others' schemas, and ranks join by the variables that are set there."""

import copy
import os
import subprocess

import pytest
import yaml
from tiny_run import RECIPE

from codemix_megatron.cli.main import main
from codemix_megatron.errors import LaunchError, RecipeError
from codemix_megatron.launch.kubernetes.cluster import read_cluster
from codemix_megatron.launch.kubernetes.manifest import job_name
from codemix_megatron.launch.skypilot.task import read_machines
from codemix_megatron.placement import find_placement

KUBERNETES = "1.34"
CLUSTER = {
    "image": "registry.example.org/codemix:1",
    "namespace": "research",
    "cpus_per_node": "16",
    "memory_per_node": "256Gi",
    "environment": {"NCCL_DEBUG": "WARN"},
    "secrets": ["hub"],
    "network_interface": "eth0",
    "node_selector": {"node.kubernetes.io/instance-type": "p5.48xlarge"},
    "queue": "nightly",
    "service_account": "trainer",
}
GPUS = {"gpus_per_node": 8}
MACHINES = {
    "accelerators": "H100:8",
    "use_spot": True,
    "file_mounts": {"/data": "s3://mine/data"},
    "environment": {"A": "1"},
    "secrets": ["HF_TOKEN"],
    "setup": ["pip install codemix_megatron"],
}


@pytest.fixture
def rendered(tiny, tmp_path, capsys):
    """Call it with a kind of destination, what its file holds and words; gives what is printed as YAML."""

    def render(on: str, plain: dict, *words) -> dict:
        site, recipe = tmp_path / "cluster.yaml", tiny.folder / "wide.yaml"
        site.write_text(yaml.safe_dump(plain))
        recipe.write_text(yaml.safe_dump({**RECIPE, "batch": {"global_sequences": 16, "micro_sequences": 1}}))
        code = main(["launch", str(recipe), "--on", on, "--site", str(site), "--folder", str(tiny.folder / "away"), "--dry-run", *words])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return yaml.safe_load(printed.out)

    return render


@pytest.fixture
def cluster(tiny) -> dict:
    """A cluster that sees the recipe's folder."""
    return {**CLUSTER, "volumes": [{"mount": str(tiny.folder), "claim": "shared"}]}


def pods_of(manifest: dict) -> list[dict]:
    """Return the pods' specifications of a manifest."""
    if manifest["kind"] == "JobSet":
        return [job["template"]["spec"]["template"]["spec"] for job in manifest["spec"]["replicatedJobs"]]
    return [replica["template"]["spec"] for replica in manifest["spec"]["pytorchReplicaSpecs"].values()]


def environment_of(pod: dict) -> dict[str, str]:
    """Return the variables that a pod's file sets to a value."""
    return {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"] if "value" in entry}


@pytest.mark.parametrize("gpus", [{}, GPUS], ids=["one rank", "eight GPUs"])
@pytest.mark.parametrize("kind", ["JobSet", "PyTorchJob"])
def test_pods_are_valid_by_the_schema_of_kubernetes(rendered, cluster, kind, gpus):
    """Judge: kubernetes-validate, with the schemas of Kubernetes itself, strictly: a key that is not known is a fault."""
    import kubernetes_validate

    manifest = rendered("kubernetes", {**cluster, "kind": kind, **gpus}, "--nodes", "2")
    for pod in pods_of(manifest):
        whole = {"restartPolicy": "Never", **pod}
        plain = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": whole}
        kubernetes_validate.validate(plain, KUBERNETES, strict=True)
        broken = copy.deepcopy(plain)
        broken["spec"]["containers"][0]["imagee"] = "x"
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, KUBERNETES, strict=True)
    if kind == "JobSet":
        job = manifest["spec"]["replicatedJobs"][0]["template"]
        kubernetes_validate.validate({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **job}, KUBERNETES, strict=True)


@pytest.mark.parametrize("gpus", [{}, GPUS], ids=["one rank", "eight GPUs"])
def test_job_set_is_valid_by_the_models_of_its_interface(rendered, cluster, gpus):
    """Judge: kubeflow-trainer-api, models made from JobSet's own interface; what they do not know is missing when it comes back."""
    from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

    manifest = rendered("kubernetes", {**cluster, **gpus}, "--nodes", "2")
    assert JobsetV1alpha2JobSet.from_dict(copy.deepcopy(manifest)).to_dict() == manifest
    manifest["spec"]["failurePolicyy"] = {}
    assert JobsetV1alpha2JobSet.from_dict(copy.deepcopy(manifest)).to_dict() != manifest


def test_nodes_gpus_volumes_and_patience_reach_the_manifest(rendered, cluster, tiny):
    manifest = rendered("kubernetes", {**cluster, **GPUS}, "--nodes", "2")
    job, (pod,) = manifest["spec"]["replicatedJobs"][0]["template"]["spec"], pods_of(manifest)
    assert (job["parallelism"], job["completions"], job["completionMode"], job["backoffLimit"]) == (2, 2, "Indexed", 0)
    assert manifest["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "nightly"} and manifest["metadata"]["name"] == "away"
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "16", "memory": "256Gi", "nvidia.com/gpu": "8"}
    assert {"name": "volume-0", "mountPath": str(tiny.folder)} in container["volumeMounts"] and pod["terminationGracePeriodSeconds"] == 300
    torchrun = ["--nnodes=2", "--nproc-per-node=8", "--node-rank=$(NODE_RANK)", "--master-addr=$(MASTER_ADDR)", "--master-port=29500"]
    assert container["command"][:8] == ["python", "-m", "torch.distributed.run", *torchrun]
    assert environment_of(pod)["MASTER_ADDR"] == "away-node-0-0.away" and environment_of(pod)["NCCL_SOCKET_IFNAME"] == "eth0"


@pytest.mark.parametrize("rank", [0, 1])
def test_pods_of_the_training_operator_know_their_placement(rendered, cluster, rank):
    """As its controller sets it: WORLD_SIZE and RANK of pods, the master's address and port (pkg/controller.v1/pytorch/envvar.go)."""
    master, worker = pods_of(rendered("kubernetes", {**cluster, "kind": "PyTorchJob"}, "--nodes", "2"))
    operator = {"MASTER_ADDR": "away-master-0", "MASTER_PORT": "29500", "WORLD_SIZE": "2", "RANK": str(rank), "PYTHONUNBUFFERED": "1"}
    placement = find_placement({**environment_of(worker if rank else master), **operator})
    assert (placement.rank, placement.size, placement.local_rank, placement.local_size) == (rank, 2, 0, 1)
    for pod in (master, worker):
        assert pod["containers"][0]["name"] == "pytorch" and pod["containers"][0]["ports"][0]["name"] == "pytorchjob-port"


def test_pods_of_a_job_set_know_their_placement(rendered, cluster):
    (pod,) = pods_of(rendered("kubernetes", cluster, "--nodes", "2"))
    placement = find_placement({**environment_of(pod), "RANK": "1"})  # the index of the completion, from the pod's annotation
    assert (placement.rank, placement.size, placement.local_rank, placement.local_size) == (1, 2, 0, 1)
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert [e["valueFrom"]["fieldRef"]["fieldPath"] for e in pod["containers"][0]["env"] if e["name"] == "RANK"] == [index]


@pytest.mark.parametrize(
    ("name", "made"), [("470m-Balanced_1.5", "470m-balanced-1-5"), ("x" * 51, None), ("...", None), ("a" * 50, "a" * 50)]
)
def test_name_of_a_run_becomes_one_of_kubernetes(name, made):
    if made is None:
        with pytest.raises(LaunchError, match="rename the run's folder"):
            job_name(name)
    else:
        assert job_name(name) == made


def test_what_no_pod_would_see_is_refused(tiny, tmp_path, capsys):
    site = tmp_path / "cluster.yaml"
    site.write_text(yaml.safe_dump({**CLUSTER, "volumes": [{"mount": "/elsewhere", "claim": "shared"}]}))
    words = ["launch", str(tiny.recipe), "--on", "kubernetes", "--site", str(site), "--folder", str(tiny.folder / "away")]
    assert main([*words, "--dry-run"]) == 2
    assert "in no volume of the cluster's file (mounts: /elsewhere)" in capsys.readouterr().err
    assert main(words) == 2
    assert "--on kubernetes: only prints; add --dry-run and hand what it prints to kubectl apply -f -" in capsys.readouterr().err
    assert main([*words, "--dry-run", "--stage", "seed=3"]) == 2
    assert "--spares and --stage belong to Slurm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"image": "x", "kind": "Pod"}, "kind: found 'Pod', allowed are JobSet, PyTorchJob"),
        ({}, "image: missing"),
        ({"image": "x", "memory_per_node": "much"}, "memory_per_node: found 'much', must be a quantity"),
        ({"image": "x", "volumes": [{"mount": "data", "claim": "c"}]}, r"volumes\[0\].mount: found 'data', must be an absolute path"),
        ({"image": "x", "volumes": [{"mount": "/data"}]}, r"volumes\[0\]: needs a claim or a host_path"),
        ({"image": "x", "ranks_per_node": 9, "gpus_per_node": 8}, "9 ranks do not fit on 8 GPUs"),
        ({"image": "x", "namespace": "A b"}, "namespace: found 'A b', must be lower-case"),
        ({"image": "x", "environment": {"HUB_TOKEN": "abc"}}, "environment.HUB_TOKEN: is a secret; name it under secrets"),
    ],
)
def test_fault_of_a_cluster_is_named(tmp_path, plain, said):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(RecipeError, match=said):
        read_cluster(tmp_path / "c.yaml")


def test_task_of_sky_pilot_says_what_to_find_and_what_to_run(rendered):
    task = rendered("skypilot", MACHINES, "--nodes", "2")
    assert task["num_nodes"] == 2 and task["resources"] == {"accelerators": "H100:8", "use_spot": True}
    assert task["secrets"] == {"HF_TOKEN": None} and task["envs"] == {"A": "1"} and task["setup"] == "pip install codemix_megatron"
    assert "--nproc-per-node=8 --node-rank=$SKYPILOT_NODE_RANK --master-addr=$MASTER_ADDR" in task["run"]


@pytest.mark.parametrize("ranks", [1, 4])
def test_nodes_of_sky_pilot_join_by_what_it_tells_them(rendered, tmp_path, ranks):
    """The script as bash runs it, with the variables that SkyPilot sets and a Python that writes down what it is given."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nenv\necho "words: $*"\n')
    python.chmod(0o755)
    script = rendered("skypilot", {"ranks_per_node": ranks, "python": str(python)}, "--nodes", "2")["run"]
    told = {
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "0",
    }
    done = subprocess.run(["bash", "-c", script], env={"PATH": os.environ["PATH"], **told}, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line and not line.startswith("words: "))
    words = done.stdout.split("words: ")[1]
    if ranks == 1:
        assert {k: found[k] for k in ("MASTER_ADDR", "MASTER_PORT")} == {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
        placement = find_placement(found)
        assert (placement.rank, placement.size, placement.local_rank, placement.local_size) == (1, 2, 0, 1) and words.startswith(
            "-m codemix_megatron train "
        )
    else:
        assert "--nnodes=2 --nproc-per-node=4 --node-rank=1 --master-addr=10.0.0.1 --master-port=29500 -m codemix_megatron train " in words


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"accelerators": "H100:many"}, "accelerators: found 'H100:many', must be a kind and a number"),
        ({"nodes": 0}, "nodes: found 0, must be at least 1"),
        ({"acelerators": "x"}, "did you mean accelerators"),
        ({"environment": {"A_TOKEN": "x"}}, "environment.A_TOKEN: is a secret; name it under secrets"),
    ],
)
def test_fault_of_machines_is_named(tmp_path, plain, said):
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(RecipeError, match=said):
        read_machines(tmp_path / "m.yaml")
