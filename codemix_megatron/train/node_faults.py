"""What differs between nodes, in words: which node, what is there, what the others have, what to do."""

from collections import Counter

import numpy as np

from codemix_megatron.parallel.exchange import ExchangeRates
from codemix_megatron.train.medians import others_median
from codemix_megatron.train.node_facts import NodeFacts

__all__ = ["Complaint", "clock_seconds", "differences", "rate_per_node", "slow_nodes", "wrong_clocks"]

MOST_CLOCK_SECONDS = 5.0
SLOW_SHARE = 1 / 3  # of the median of the other nodes

Complaint = tuple[tuple[str, ...], str]  # nodes, text


def differences(facts: list[NodeFacts]) -> list[Complaint]:
    """Return what makes training on these nodes impossible or wrong."""
    found = odd_ones(facts, "devices", {f.rank: f.device for f in facts}, "give every node the same devices, or leave the node out")
    for package in sorted({name for f in facts for name in f.versions}):
        there = {f.rank: f.versions.get(package, "is not installed") for f in facts}
        found += odd_ones(facts, package, there, "install the same on every node")
    for path in sorted({path for f in facts for path in f.corpora}):
        found += odd_ones(
            facts, path, {f.rank: f.corpora.get(path, "is not asked for") for f in facts}, "mount the same file on every node"
        )
    remedy = "put the run on a file system that all nodes share and may write to, or give another --folder"
    found += [((f.node,), f"{who(f)}: the run folder: {f.folder_fault}; {remedy}") for f in facts if f.folder_fault]
    return found


def odd_ones(facts: list[NodeFacts], what: str, values: dict[int, str], remedy: str) -> list[Complaint]:
    """Return a complaint for each value that most nodes do not have; where there is no majority the main rank's counts as usual."""
    counts = Counter(values[f.rank] for f in facts)  # in order of ranks, the main one first
    usual = max(counts, key=lambda value: counts[value])
    complaints: list[Complaint] = []
    for value in counts:
        if value != usual:
            odd = [f for f in facts if values[f.rank] == value]
            others = f"the other {counts[usual]} nodes" if counts[usual] > 1 else next(who(f) for f in facts if values[f.rank] == usual)
            text = f"{', '.join(map(who, odd))}: {what} {value}, {others}: {usual}; {remedy}"
            complaints.append((tuple(f.node for f in odd), text))
    return complaints


def wrong_clocks(facts: list[NodeFacts], ahead_seconds: dict[int, float]) -> list[Complaint]:
    """Return which clocks differ from the main rank's; `ahead_seconds` are those of each rank."""
    complaints: list[Complaint] = []
    for f in facts:
        seconds = ahead_seconds[f.rank]
        if abs(seconds) > MOST_CLOCK_SECONDS:
            direction = "ahead of" if seconds > 0 else "behind"
            text = (
                f"{who(f)}: its clock is {abs(seconds):.0f} s {direction} {who(facts[0])}'s, at most {MOST_CLOCK_SECONDS:.0f} s are allowed"
                "; set it (chrony, ntp): the order of failures and logs depends on it"
            )
            complaints.append(((f.node,), text))
    return complaints


def clock_seconds(read_at: float, written_at: float, gathered_at: float) -> float:
    """Return by how much at least a clock is ahead of the main rank's (behind: negative).

    It was read after the main rank's showed `written_at` and before that showed `gathered_at`.
    """
    return max(0.0, read_at - gathered_at) - max(0.0, written_at - read_at)


def slow_nodes(facts: list[NodeFacts], rates: list[ExchangeRates], nodes: list[str]) -> list[Complaint]:
    """Return which nodes exchange data much more slowly than the others; `rates` and `nodes` are those of all ranks."""
    complaints: list[Complaint] = []
    for what, words in (("within", "its ranks exchange"), ("between", "it exchanges with its neighbours")):
        slowest = rate_per_node(rates, nodes, what)
        if len(slowest) < 2:
            continue
        usual = dict(zip(slowest, others_median(np.array(list(slowest.values()))).tolist(), strict=True))
        for f in facts:
            if f.node in slowest and slowest[f.node] < SLOW_SHARE * usual[f.node]:
                text = (
                    f"{who(f)}: {words} {slowest[f.node] / 1e9:.2f} GB/s, the others {usual[f.node] / 1e9:.2f} GB/s"
                    "; look at its network and at what else runs there, or leave it out"
                )
                complaints.append(((f.node,), text))
    return complaints


def rate_per_node(rates: list[ExchangeRates], nodes: list[str], what: str) -> dict[str, float]:
    """Return node -> bytes per second of its slowest rank, of those that were measured."""
    slowest: dict[str, float] = {}
    for node, seen in zip(nodes, rates, strict=True):
        if (rate := seen[what]) is not None:
            slowest[node] = min(rate, slowest.get(node, float("inf")))
    return slowest


def who(f: NodeFacts) -> str:
    """Return a node's name and its first rank."""
    return f"{f.node} (rank {f.rank})"
