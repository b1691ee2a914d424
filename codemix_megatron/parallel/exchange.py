"""How fast nodes exchange data: within each of them, and each with its neighbours on a ring of all."""

import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from codemix_megatron.parallel.ranks import Ranks

__all__ = ["ExchangeRates", "Partners", "exchange_rates", "find_partners", "rounds_of_ring"]

EXCHANGED_BYTES = {"cpu": 4 << 20, "cuda": 64 << 20}
REPEATS = 3  # the best counts: the first one connects, and others may be disturbed

ExchangeRates = dict[str, float | None]  # `within` and `between`, in bytes per second and direction


@dataclass(frozen=True)
class Partners:
    """Whom one rank exchanges data with: on its node the ranks after and before it, and in each round a first rank of another node."""

    num_nodes: int
    is_first: bool  # of its node
    following: int | None
    previous: int | None
    in_round: tuple[int | None, ...]


def find_partners(nodes: list[str]) -> list[Partners]:
    """Return each rank's partners, from the nodes of all ranks; O(N), for the main rank alone."""
    members: dict[str, list[int]] = {}
    for rank, node in enumerate(nodes):
        members.setdefault(node, []).append(rank)
    firsts = [ranks[0] for ranks in members.values()]
    rounds: list[dict[int, int]] = []
    for pairs in rounds_of_ring(len(firsts)):
        met = [(firsts[one], firsts[other]) for one, other in pairs]
        rounds.append(dict(met) | {other: one for one, other in met})
    found: dict[int, Partners] = {}
    for ranks in members.values():
        for at, rank in enumerate(ranks):
            following, previous = (ranks[(at + 1) % len(ranks)], ranks[at - 1]) if len(ranks) > 1 else (None, None)
            found[rank] = Partners(len(firsts), at == 0, following, previous, tuple(met.get(rank) for met in rounds))
    return [found[rank] for rank in range(len(nodes))]


def exchange_rates(ranks: Ranks, partners: Partners) -> ExchangeRates:
    """Return the rates this rank sees. Every rank calls this.

    `within`: with the next rank of its node, all ranks at once. `between`: first ranks of nodes in pairs, each with both neighbours
    in turn, and the better of the two counts: a node with a bad link is slow with both, its neighbours are not.
    """
    within = None
    if partners.following is not None and partners.previous is not None:
        within = rate(ranks.device, partners.following, partners.previous)
    seen = []
    for partner in partners.in_round:
        dist.barrier()
        if partner is not None:
            seen.append(rate(ranks.device, partner, partner))
    return {"within": within, "between": max(seen, default=None)}


def rounds_of_ring(size: int) -> list[list[tuple[int, int]]]:
    """Return rounds of disjoint pairs in which each of `size` ranks meets both neighbours on a ring.

    >>> rounds_of_ring(4)
    [[(0, 1), (2, 3)], [(1, 2), (3, 0)]]
    >>> rounds_of_ring(3)
    [[(0, 1)], [(1, 2)], [(2, 0)]]
    >>> rounds_of_ring(2)
    [[(0, 1)]]
    """
    if size < 3:
        return [[(0, 1)]] if size == 2 else []
    pairs = [(rank, (rank + 1) % size) for rank in range(size)]
    last = [[pairs.pop()]] if size % 2 else []
    return [pairs[0::2], pairs[1::2], *last]


def rate(device: torch.device, to: int, source: int) -> float:
    """Return bytes per second of sending to one rank while receiving from one."""
    sent = torch.ones(EXCHANGED_BYTES[device.type], dtype=torch.uint8, device=device)
    received, best = torch.empty_like(sent), float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        exchanges = [dist.P2POp(dist.isend, sent, to), dist.P2POp(dist.irecv, received, source)]
        for work in dist.batch_isend_irecv(exchanges):
            work.wait()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return sent.numel() / best
