"""Nodes that are blamed for the end of a start, and how many of them may be left out."""

import re

from codemix_megatron.launch.slurm.failed_rank import FailedRank

__all__ = ["lost_node", "node_at_fault", "nodes_to_exclude", "nodes_to_restart_on"]

GONE = re.compile(r"down|drain|fail|not_responding|no_respond|unknown|inval|powered|maint|\*", re.IGNORECASE)


def lost_node(nodes, states: dict[str, str]) -> str | None:
    """Return the first of a start's nodes that Slurm has lost, or None."""
    return next((node for node in nodes if node in states and GONE.search(states[node])), None)


def node_at_fault(lost: str | None, failed: FailedRank | None, action: str) -> str | None:
    """Return the node that an attempt's end is blamed on: one that Slurm lost, or whose hardware speaks of a fault; None otherwise.

    An attempt that is done or was asked to leave blames no rank's node, whatever it complained of while it left.
    """
    return lost or (failed.node if failed and failed.evidence and action in ("requeue", "fail") else None)


def nodes_to_restart_on(allocated, at_fault, states: dict[str, str], needed: int) -> list[str]:
    """Return the nodes of a job's allocation, in its order, to start again on: none at fault, none lost; empty where too few are left."""
    left = [node for node in allocated if node not in at_fault and not GONE.search(states.get(node, ""))]
    return left[:needed] if len(left) >= needed else []


def nodes_to_exclude(blamed: dict[str, str], kept_out: list[str], states: dict[str, str], needed: int) -> tuple[list[str], str]:
    """Return the nodes to exclude (those kept out before among them) and a line that says so.

    `blamed` is oldest first; the latest is left out first, and none without which fewer than `needed` nodes that work would be left.
    """
    working = {node for node, state in states.items() if not GONE.search(state)} - set(kept_out)
    chosen: list[str] = []
    spared: list[str] = []
    for node in reversed(blamed):
        if node in kept_out:
            continue
        left = working - {node}
        if len(left) >= needed:
            working, chosen = left, [*chosen, node]
        else:
            spared.append(node)
    told = [f"{node} is left out on the next start" for node in chosen]
    told += [f"{node} failed but is not left out: {len(working - {node})} other nodes work, {needed} are needed" for node in spared]
    return ([*kept_out, *chosen] if chosen else []), "; ".join(told) or "no node is left out"
