"""Stages of deciding duplicates on a Ray cluster: the one that RAY_ADDRESS names, or a local one of a worker for each core."""

import os
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
    local: dict[str, Any] = {"num_cpus": available_cores(), "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **({} if os.environ.get("RAY_ADDRESS") else local))
    except Exception as fault:  # whatever keeps a cluster from starting or being reached
        raise CorpusError(f"no Ray cluster could be joined or started ({str(fault)[:300]})", exit_code=MACHINE_FAULT) from fault
    try:
        yield run_on(ray)
    except ray.exceptions.RayError as fault:
        raise CorpusError(f"a stage failed on the Ray cluster ({str(fault)[-600:]})", exit_code=MACHINE_FAULT) from fault
    finally:
        ray.shutdown()


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
