"""Two nodes as SkyPilot and the training operator of Kubernetes start them: what is printed for them trains, and as a local start does."""

import os
import subprocess

import pytest
import yaml
from patience import PATIENCE_SECONDS
from tiny_run import clean_environment, held_port

from codemix_megatron.launch.joined_ranks import MASTER_PORT

PORT = str(MASTER_PORT)


def printed(tiny, on: str, destination: dict) -> dict:
    """Return what `codemix launch --on` prints for two nodes."""
    path = tiny.folder / f"{on}.yaml"
    path.write_text(yaml.safe_dump(destination))
    words = ["launch", tiny.recipe, "--on", on, "--site", path, "--folder", tiny.folder / f"run-{on}", "--nodes", "2", "--dry-run"]
    done = tiny.codemix_here(*words)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def nodes_of_sky_pilot(tiny, python: str, port: str) -> list[tuple[list[str], dict[str, str]]]:
    """Return each node's command, and the variables that SkyPilot sets there."""
    script = printed(tiny, "skypilot", {"python": python})["run"].replace(PORT, port)
    told = {"SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.1", "SKYPILOT_NUM_NODES": "2"}
    return [(["bash", "-c", script], {**told, "SKYPILOT_NODE_RANK": str(rank)}) for rank in range(2)]


def nodes_of_the_operator(tiny, python: str, port: str) -> list[tuple[list[str], dict[str, str]]]:
    """Return each pod's command, and the variables of its file and those that the operator adds."""
    destination = {
        "image": "x",
        "kind": "PyTorchJob",
        "python": python,
        "volumes": [{"mount": str(tiny.folder), "host_path": str(tiny.folder)}],
    }
    replicas, found = printed(tiny, "kubernetes", destination)["spec"]["pytorchReplicaSpecs"], []
    for rank, kind in enumerate(("Master", "Worker")):
        container = replicas[kind]["template"]["spec"]["containers"][0]
        own = {entry["name"]: entry["value"] for entry in container["env"]}
        added = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": str(rank)}
        found.append((container["command"], {**own, **added}))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("on", "nodes"), [("skypilot", nodes_of_sky_pilot), ("kubernetes", nodes_of_the_operator)])
def test_nodes_that_others_start_train_together(tiny, undisturbed, on, nodes):
    python = os.path.abspath(os.sys.executable)
    started = []
    for words, told in nodes(tiny, python, str(held_port())):
        started.append(
            subprocess.Popen(words, env={**clean_environment(), **told}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    said = [process.communicate(timeout=PATIENCE_SECONDS)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert tiny.losses(f"run-{on}") == undisturbed


@pytest.fixture(scope="module")
def undisturbed(tiny):
    """Losses of the same recipe on two ranks that codemix starts."""
    done = tiny.train("here", "--nproc", "2")
    assert done.returncode == 0, done.stderr
    return tiny.losses("here")
