"""What an entry in the table of changes to megatron-core consists of, and which versions of it an entry is for."""

import functools
import importlib.metadata
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from packaging.specifiers import SpecifierSet

from codemix_megatron.megatron.sites import Site

__all__ = [
    "CLIPPING",
    "CORE",
    "DISTRIBUTED_OPTIMIZER",
    "LAYERS",
    "LINEAR",
    "OURS",
    "SUPPORTED_MEGATRON",
    "Change",
    "changes_here",
    "is_here",
    "megatron_version",
]

SUPPORTED_MEGATRON = ("0.16.1", "0.19.2")  # tests run on these; others between them are taken where every site fits
CORE = "megatron.core"
OURS = "codemix_megatron.megatron"
LAYERS = f"{CORE}.tensor_parallel.layers"
LINEAR = f"{LAYERS}:LinearWithGradAccumulationAndAsyncCommunication"
CLIPPING = f"{CORE}.optimizer.clip_grads"
DISTRIBUTED_OPTIMIZER = f"{CORE}.optimizer.distrib_optimizer"

When = Literal["always", "on CPU", "without FusedAdam", "on CUDA without FusedAdam", "with Transformer Engine", "at import"]


@dataclass(frozen=True)
class Change:
    """One change to megatron-core; all its sites are replaced, or none."""

    name: str
    when: When
    why: str
    sites: tuple[Site, ...]
    upstream: str = "no issue known"
    needs: str = ""  # a change without which this one is left out too
    is_needed: bool = False  # nothing trains without it where it applies
    versions: str = ""  # of megatron-core, where it is not for all: a specifier as pip has them


def changes_here(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return those of the installed megatron-core, each with the sites that it has."""
    return tuple(
        replace(change, sites=tuple(site for site in change.sites if is_here(site.versions)))
        for change in changes
        if is_here(change.versions)
    )


def is_here(versions: str) -> bool:
    """Say whether the installed megatron-core is one of these versions."""
    return SpecifierSet(versions).contains(megatron_version(), prereleases=True)


@functools.cache
def megatron_version() -> str:
    """Return the version that is imported, or would be; nothing is imported for it."""
    core = sys.modules.get(CORE)
    return (core.__version__ if core is not None else importlib.metadata.version("megatron-core")).partition("+")[0]
