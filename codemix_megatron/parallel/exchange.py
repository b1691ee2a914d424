"""How fast nodes exchange data: within each of them, and each with its neighbours on a ring of all."""

import time

import torch
import torch.distributed as dist

from codemix_megatron.parallel.ranks import Ranks

__all__ = ["ExchangeRates", "exchange_rates", "rounds_of_ring"]

EXCHANGED_BYTES = {"cpu": 4 << 20, "cuda": 64 << 20}
REPEATS = 3  # the best counts: the first one connects, and others may be disturbed

ExchangeRates = dict[str, float | None]  # `within` and `between`, in bytes per second and direction


def exchange_rates(ranks: Ranks, nodes: list[str]) -> ExchangeRates:
    """Return the rates this rank sees; `nodes` are those of all ranks. Every rank calls this.

    `within`: with the next rank of its node, all ranks at once. `between`: first ranks of nodes in pairs, each with both neighbours
    in turn, and the better of the two counts: a node with a bad link is slow with both, its neighbours are not.
    """
    siblings = [rank for rank, node in enumerate(nodes) if node == nodes[ranks.rank]]
    at = siblings.index(ranks.rank)
    within = None
    if len(siblings) > 1:
        within = rate(ranks.device, siblings[(at + 1) % len(siblings)], siblings[at - 1])
    first_ranks = [nodes.index(node) for node in dict.fromkeys(nodes)]
    seen = []
    for pairs in rounds_of_ring(len(first_ranks)):
        dist.barrier()
        for one, other in pairs:
            if ranks.rank in (first_ranks[one], first_ranks[other]):
                partner = first_ranks[other if ranks.rank == first_ranks[one] else one]
                seen.append(rate(ranks.device, partner, partner))
    return {"within": within, "between": max(seen, default=None)}


def rounds_of_ring(size: int) -> list[list[tuple[int, int]]]:
    """Return rounds of disjoint pairs in which each of `size` places meets both neighbours on a ring.

    >>> rounds_of_ring(4)
    [[(0, 1), (2, 3)], [(1, 2), (3, 0)]]
    >>> rounds_of_ring(3)
    [[(0, 1)], [(1, 2)], [(2, 0)]]
    >>> rounds_of_ring(2)
    [[(0, 1)]]
    """
    if size < 3:
        return [[(0, 1)]] if size == 2 else []
    pairs = [(place, (place + 1) % size) for place in range(size)]
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
