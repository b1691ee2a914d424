"""Stages of deciding duplicates on a Ray cluster: the one that RAY_ADDRESS names, or a local one of a worker for each core."""

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from codemix_megatron.cores import available_cores
from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.filters.duplicates_in_stages import Run, find_duplicates_in_stages, find_near_duplicates_in_stages
from codemix_megatron.recipe.filtering import NearDuplicates

__all__ = ["find_duplicates_by_ray", "find_near_duplicates_by_ray"]

SECONDS_WITHOUT_A_RESULT = 3600  # no task takes minutes: a partition is tens of megabytes
SECONDS_TO_CONNECT = 30
LOCAL_STARTS, STARTED_TOO_SLOWLY = 3, "timed out during startup"  # Ray gives its processes 30 seconds, which cannot be set
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
OBJECT_STORE_BYTES = 256 << 20  # of a local cluster; tasks hand over files, and return a few numbers


def find_duplicates_by_ray(blocks: Iterable[np.ndarray], total: int, scratch: Path) -> np.ndarray:
    """Return for each of `total` digests (blocks of V16) whether an equal one came before; `scratch` is seen by all nodes."""
    with cluster() as run:
        return find_duplicates_in_stages(blocks, total, scratch.resolve(), run)


def find_near_duplicates_by_ray(signatures: np.ndarray, spec: NearDuplicates, num_fixed: int, scratch: Path) -> np.ndarray:
    """Return, for each document in order, the earlier document it is nearly a copy of, or -1 when it stays."""
    with cluster() as run:
        return find_near_duplicates_in_stages(signatures, spec, num_fixed, scratch.resolve(), run)


@contextmanager
def cluster() -> Iterator[Run]:
    """Join a cluster, or start one, and give what runs functions on it."""
    try:
        import ray
    except ImportError:
        raise CorpusError("deciding duplicates by Ray needs its package: pip install 'codemix_megatron[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    check_answers(os.environ.get("RAY_ADDRESS", ""))
    join_or_start(ray)
    try:
        yield run_on(ray)
    except ray.exceptions.RayError as fault:
        raise CorpusError(f"a stage failed on the Ray cluster ({COLOURS.sub('', str(fault))[-600:]})", exit_code=MACHINE_FAULT) from fault
    finally:
        ray.shutdown()


def join_or_start(ray: Any) -> None:
    """Join the cluster of RAY_ADDRESS, or start a local one, again where a busy machine took longer than Ray waits for its own processes."""
    local: dict[str, Any] = {"num_cpus": available_cores(), "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    is_local = not os.environ.get("RAY_ADDRESS")
    for left in reversed(range(LOCAL_STARTS if is_local else 1)):
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **(local if is_local else {}))
            return
        except Exception as fault:  # whatever keeps a cluster from starting or being reached
            ray.shutdown()
            if not left or STARTED_TOO_SLOWLY not in str(fault):
                raise CorpusError(f"no Ray cluster could be joined or started ({str(fault)[:300]})", exit_code=MACHINE_FAULT) from fault


def check_answers(address: str) -> None:
    """Refuse an address where nothing listens: Ray would go on asking for many minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdecimal():  # none, or a word of Ray's such as `auto`
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as fault:
        raise CorpusError(
            f"no Ray cluster answers at {host}:{port} (RAY_ADDRESS): {fault}. Start one there (`ray start --head`), or unset RAY_ADDRESS"
            " for a local one",
            exit_code=MACHINE_FAULT,
        ) from None


def run_on(ray: Any) -> Run:
    """Return what calls a function with many arguments on the workers of a cluster and waits for all of them."""

    def run(function: Callable[..., Any], calls: Sequence[tuple]) -> list:
        remote = ray.remote(max_retries=2)(function)
        references = [remote.remote(*arguments) for arguments in calls]
        waiting = references
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=SECONDS_WITHOUT_A_RESULT)
            if not done:
                raise CorpusError(
                    f"no stage on the Ray cluster ended within {SECONDS_WITHOUT_A_RESULT:,} seconds; are its nodes alive and is the scratch"
                    " folder seen by all of them?",
                    exit_code=MACHINE_FAULT,
                )
        return ray.get(references)

    return run
