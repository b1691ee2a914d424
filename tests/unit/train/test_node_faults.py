"""Which node is named when nodes differ, from what their first ranks found."""

from codemix_megatron.parallel.exchange import rounds_of_ring
from codemix_megatron.train.node_facts import NodeFacts
from codemix_megatron.train.node_faults import clock_seconds, differences, slow_nodes

FAST, SLOW = 1e10, 1e9


def node(number: int, **more) -> NodeFacts:
    """Return what the first of two ranks of a node finds."""
    return NodeFacts(**{"rank": 2 * number, "node": f"node{number}", "device": "8 x H100, 80 GiB", "versions": {"torch": "2.13.0"}, **more})


def between(edges: dict[tuple[int, int], float], size: int) -> list[dict]:
    """Return what first ranks see on a ring whose links have these rates."""
    seen = {rank: [edges.get(pair, FAST) for pairs in rounds_of_ring(size) for pair in pairs if rank in pair] for rank in range(size)}
    return [{"within": None, "between": max(seen[rank])} for rank in range(size)]


def test_minority_is_named_with_what_most_have():
    facts = [node(0, versions={"torch": "2.12.0"}), node(1), node(2), node(3, device="7 x H100, 80 GiB")]
    texts = [text for _, text in differences(facts)]
    assert texts[0].startswith("node3 (rank 6): devices 7 x H100, 80 GiB, the other 3 nodes: 8 x H100, 80 GiB; ")
    assert texts[1].startswith("node0 (rank 0): torch 2.12.0, the other 3 nodes: 2.13.0; ") and len(texts) == 2


def test_package_that_one_node_lacks_is_named():
    facts = [node(0, versions={"torch": "2.13.0", "transformer-engine": "2.9"}), node(1)]
    assert differences(facts)[0][1].startswith("node1 (rank 2): transformer-engine is not installed, node0 (rank 0): 2.9; ")


def test_node_with_a_bad_link_is_named_and_its_neighbours_are_not():
    for size in (3, 4, 5):
        for bad in range(size):
            edges = {pair: SLOW for pairs in rounds_of_ring(size) for pair in pairs if bad in pair}
            found = slow_nodes([node(n) for n in range(size)], between(edges, size), [f"node{n}" for n in range(size)])
            assert [nodes for nodes, _ in found] == [(f"node{bad}",)]


def test_node_whose_own_ranks_exchange_slowly_is_named_even_of_two():
    rates = [{"within": rate, "between": FAST if rank % 2 == 0 else None} for rank, rate in enumerate([FAST, FAST, FAST, SLOW])]
    found = slow_nodes([node(0), node(1)], rates, ["node0", "node0", "node1", "node1"])
    assert [nodes for nodes, _ in found] == [("node1",)] and "its ranks exchange 1.00 GB/s, the others 10.00 GB/s" in found[0][1]


def test_clock_is_wrong_only_by_what_waiting_cannot_explain():
    assert clock_seconds(104.0, written_at=100.0, gathered_at=107.0) == 0
    assert clock_seconds(160.0, written_at=100.0, gathered_at=107.0) == 53
    assert clock_seconds(90.0, written_at=100.0, gathered_at=107.0) == -10
