"""One real Slurm cluster for all tests here, the tiny recipe, and `codemix launch` as a user calls it."""

import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from patience import PATIENCE_SECONDS, wait_until
from slurm.cluster import Cluster, why_not
from tiny_run import Tiny, tiny  # noqa: F401


def pytest_collection_modifyitems(items):
    """All tests of this folder need the cluster; a busy machine makes seconds of imports minutes, and some wait for five starts."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Three nodes, ended with everything on them."""
    if reason := why_not():
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("slurm") / "cluster")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@dataclass
class Launcher:
    """`codemix launch` on the cluster's login node."""

    cluster: Cluster
    tiny: Tiny
    site: Path
    python: str = sys.executable

    def launch(self, *words):
        """Run the command to its end."""
        return self.cluster.run(sys.executable, "-m", "codemix_megatron", "launch", *words, cwd=self.tiny.folder, timeout=PATIENCE_SECONDS)

    def train(self, run: str, *words, **site) -> str:
        """Submit the tiny recipe into a run folder and return the job's id."""
        done = self.launch(self.tiny.recipe, "--site", self.site_file(**site), "--folder", self.tiny.folder / run, *words)
        assert done.returncode == 0, done.stderr
        return re.search(r"^job (\d+): ", done.stdout, re.M)[1]

    def site_file(self, **site) -> Path:
        """Return a site file with these keys beside the usual ones."""
        plain = {"partition": "train", "ranks_per_node": 1, "save_seconds": 60, **site}
        self.site.write_text(yaml.safe_dump(plain))
        return self.site

    def log(self, run: str) -> str:
        """Return the logs of a run's jobs."""
        return "".join(path.read_text() for path in sorted((self.tiny.folder / run / "launch").glob("*.log")))

    def attempts(self, run: str, event: str) -> list[dict]:
        """Return what attempts.jsonl holds of one kind."""
        path = self.tiny.folder / run / "launch" / "attempts.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [e for e in map(json.loads, lines) if e["event"] == event]

    def wait_for_start(self, run: str, number: int) -> dict:
        """Wait until the n-th start of a run has begun."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(begins := self.attempts(run, "begin")) < number:
            assert time.monotonic() < deadline, f"{run}: start {number} did not begin within {PATIENCE_SECONDS} s\n{self.log(run)}"
            time.sleep(0.1)
        return begins[-1]

    def wait_for_own_steps(self, run: str, begin: dict, count: int) -> None:
        """Wait until a start has made so many steps itself: until its ranks train, the journal holds those of the start before."""
        starts = wait_until(
            lambda: [e["step"] for e in self.tiny.events(run, "start") if e["launch"] == begin["start"]],
            lambda: f"{run}: the ranks of start {begin['start']} do not train\n{self.log(run)}",
        )
        self.tiny.wait_for_step(run, max(starts) + count)


@pytest.fixture(scope="session")
def launcher(cluster, tiny, tmp_path_factory) -> Launcher:  # noqa: F811
    """The login node."""
    return Launcher(cluster, tiny, tmp_path_factory.mktemp("site") / "site.yaml")


@pytest.fixture(scope="session")
def undisturbed(tiny):  # noqa: F811
    """Losses of the run on two ranks of this machine, without Slurm."""
    done = tiny.train("undisturbed", "parallel.tensor=2")
    assert done.returncode == 0, done.stderr
    return tiny.losses("undisturbed")
