"""Checkpoints between local layers and Transformer Engine's: what the latter keep of FP8 beside their weights may be absent.

Its linears and norms ask for an `_extra_state` each, empty without FP8. Local norms save none, so that a checkpoint of theirs lacks
`final_layernorm._extra_state` and those of query and key norms; Megatron would refuse it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron.core.dist_checkpointing.mapping import ShardedObject

from codemix_megatron.checkpoint.torch_dist import stored_names

__all__ = ["put_back", "take_out_absent"]

SUFFIX = "_extra_state"


def take_out_absent(checkpoint: Path, sharded_state: dict) -> list[tuple]:
    """Remove the extra states that a checkpoint does not hold from what it is asked for; return the keys that lead to each."""
    wanted = list(extra_states(sharded_state))
    there = stored_names(checkpoint) if wanted else set()
    absent = [path for path, entry in wanted if entry.unique_key not in there]
    for *way, last in absent:
        del inside(sharded_state, way)[last]
    return absent


def put_back(state: dict, paths: list[tuple]) -> None:
    """Give a loaded state an empty one at the end of each of these paths of keys: torch's modules ask for it by name."""
    for *way, last in paths:
        inside(state, way)[last] = None


def extra_states(state: dict, path: tuple = ()) -> Iterator[tuple[tuple, ShardedObject]]:
    """Yield where in nested dictionaries each extra state is."""
    for name, entry in state.items():
        if isinstance(entry, dict):
            yield from extra_states(entry, (*path, name))
        elif isinstance(entry, ShardedObject) and entry.key.endswith(SUFFIX):
            yield (*path, name), entry


def inside(state: Any, way: list) -> Any:
    """Return the dictionary at the end of a way."""
    for name in way:
        state = state[name]
    return state
