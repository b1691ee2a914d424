"""Stages of deciding duplicates on a Ray cluster of several worker processes, one of which is killed.

Judge: the decisions of one process in memory, and of Python's dictionary.
"""

import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY

from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.filters import duplicates_in_stages as in_stages
from codemix_megatron.filters.near_duplicates import find_near_duplicates
from codemix_megatron.filters.ray_workers import cluster
from codemix_megatron.recipe.filtering import NearDuplicates

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="ray is not installed: pip install 'codemix_megatron[ray]'")
WORKERS = 3
SPEC = NearDuplicates()


@pytest.fixture(scope="module")
def run():
    """What runs functions on a local cluster of three worker processes, all in this test's own processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        for folder in (REPOSITORY / "tests", Path(__file__).parent):  # workers import the functions of this file
            patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setattr("codemix_megatron.filters.ray_workers.available_cores", lambda: WORKERS)
        with cluster() as on_cluster:
            yield on_cluster


def process_among_others(folder: Path, _: int) -> int:
    """Return the worker's process, once as many as there are to be have told here that they work."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(folder.iterdir())) < WORKERS and time.monotonic() < deadline:
        time.sleep(0.05)
    return os.getpid()


def test_stages_run_in_several_processes_none_of_them_this_one(run, tmp_path):
    processes = set(run(process_among_others, [(tmp_path, number) for number in range(12)]))
    assert len(processes) == WORKERS and os.getpid() not in processes


@pytest.fixture
def small_stages(monkeypatch):
    """As few rows in a stage as make many tasks of a small number of documents; workers are told by the arguments alone."""
    monkeypatch.setattr(in_stages, "DOCUMENTS_AT_ONCE", 1 << 17)
    monkeypatch.setattr(in_stages, "ROWS_OF_A_PARTITION", 1500)
    monkeypatch.setattr(in_stages, "ROWS_OF_A_BUCKET", 50)


def signatures_with_copies(path: Path, count: int) -> np.ndarray:
    """Return signatures in a file, two in five of them nearly copies of an earlier one."""
    draw = np.random.default_rng(4)
    signatures = draw.integers(0, 256, (count, SPEC.permutations), dtype=np.uint8)
    for document in range(1, count):
        if draw.random() < 0.4:
            changed = draw.random(SPEC.permutations) < draw.uniform(0, 0.5)
            signatures[document] = np.where(changed, signatures[document], signatures[draw.integers(0, document)])
    signatures.tofile(path)
    return np.memmap(path, dtype=np.uint8, mode="r")


def test_near_duplicates_are_those_of_one_process_and_every_task_is_a_workers(run, tmp_path, small_stages):
    signatures = signatures_with_copies(tmp_path / "signatures", 3000)
    tasks: list[int] = []

    def counted(function, calls):
        tasks.append(len(calls))
        return run(function, calls)

    found = in_stages.find_near_duplicates_in_stages(signatures, SPEC, 100, tmp_path, counted)
    assert found.tolist() == find_near_duplicates(signatures, SPEC, 100).tolist()
    assert (found >= 0).sum() > 300 and max(tasks) > 10 * WORKERS, "each worker had many tasks"


def test_exact_duplicates_are_all_but_the_first(run, tmp_path, small_stages):
    draw = np.random.default_rng(7)
    digests = np.frombuffer(draw.integers(0, 1 << 64, (4000, 2), dtype=np.uint64).tobytes(), "V16")[draw.integers(0, 4000, 9000)]
    seen: dict[bytes, int] = {}
    wanted = [seen.setdefault(digest.tobytes(), index) < index for index, digest in enumerate(digests)]
    assert in_stages.find_duplicates_in_stages(np.array_split(digests, 7), len(digests), tmp_path, run).tolist() == wanted


def die_once(mark: Path, number: int) -> int:
    """Kill the worker's process the first time that this is called with these arguments."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_what_a_killed_worker_was_doing_is_done_again_by_another(run, tmp_path):
    assert run(die_once, [(tmp_path / f"mark-{number}", number) for number in range(4)]) == [0, 1, 2, 3]


def always_die(_: int) -> None:
    """Kill the worker's process."""
    os.kill(os.getpid(), signal.SIGKILL)


def broken(_: int) -> None:
    """Fail as code does."""
    raise ValueError("a partition of 7 rows")


@pytest.mark.parametrize("stage, said", [(broken, "a partition of 7 rows"), (always_die, "died")])
def test_a_stage_that_cannot_be_done_ends_the_command_with_its_reason(tmp_path, monkeypatch, stage, said, run):
    """Within the cluster that is running: `cluster` translates what Ray raises."""
    import ray

    monkeypatch.setattr(ray, "init", lambda **options: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(CorpusError, match=f"(?s)a stage failed on the Ray cluster.*{said}") as caught, cluster() as again:
        again(stage, [(1,)])
    assert caught.value.exit_code == MACHINE_FAULT


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_a_cluster_that_is_not_there_is_an_error_at_once(monkeypatch, address):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nothing answers, and nobody else takes the port
        monkeypatch.setenv("RAY_ADDRESS", address.format(port=taken.getsockname()[1]))
        with pytest.raises(CorpusError, match=r"no Ray cluster answers at 127\.0\.0\.1:\d+ \(RAY_ADDRESS\)") as caught, cluster():
            pass
    assert caught.value.exit_code == MACHINE_FAULT
