"""Nodes give out addresses by which others reach them, and say which key sets them where they do not."""

import datetime
import os
import threading

import pytest
import torch.distributed as dist

from codemix_megatron.errors import LaunchError
from codemix_megatron.parallel import addresses
from codemix_megatron.parallel.addresses import check_addresses
from codemix_megatron.placement import Placement

WAIT = datetime.timedelta(seconds=10)
HERE = {"eth0": "10.77.0.11", "ib0": "10.99.0.11"}


@pytest.fixture
def debian(monkeypatch):
    """A node whose own name is 127.0.1.1, as Debian's installer writes it, and the main rank's is an address of the cluster."""
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "20000")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr(addresses, "addresses_here", lambda: dict(HERE))
    monkeypatch.setattr(addresses, "resolved", lambda host: ["10.77.0.1"] if host == "node1" else [])
    monkeypatch.setattr(addresses, "address_towards", lambda address: "10.77.0.11")


def test_loopback_of_a_nodes_own_name_is_not_given_out(debian):
    assert addresses.own_address(Placement(1, 2, 0, 1, "srun"), dist.HashStore(), "gloo") == "10.77.0.11"
    assert os.environ.pop("GLOO_SOCKET_IFNAME") == "eth0"


def test_main_rank_learns_its_address_from_the_others(debian, monkeypatch):
    monkeypatch.setattr(addresses, "resolved", lambda host: [])
    store = dist.HashStore()
    store.set(addresses.MAIN_ADDRESS, "10.77.0.11")
    assert addresses.own_address(Placement(0, 2, 0, 1, "srun"), store, "gloo") == "10.77.0.11"
    assert os.environ.pop("GLOO_SOCKET_IFNAME") == "eth0"


@pytest.mark.parametrize(
    ("wanted", "address"), [("ib0", "10.99.0.11"), ("ib", "10.99.0.11"), ("=eth0", "10.77.0.11"), ("^eth", "10.99.0.11")]
)
def test_interface_is_chosen_as_nccl_chooses_it(wanted, address):
    assert addresses.address_of_interface(wanted, HERE, "NCCL_SOCKET_IFNAME") == address


def test_interface_that_a_node_does_not_have_is_named_with_those_it_has():
    with pytest.raises(LaunchError, match=r"network_interface \(GLOO_SOCKET_IFNAME\) is ib9, .* there are eth0 10.77.0.11, ib0") as refused:
        addresses.address_of_interface("ib9", HERE, "GLOO_SOCKET_IFNAME")
    assert refused.value.exit_code == 2  # a setting: no node is at fault


def together(num_nodes: int, own: dict[int, str], monkeypatch) -> list[str]:
    """Have nodes, each on a thread and by default on the loopback, look at their addresses; return what each complained of."""
    store, said = dist.HashStore(), [""] * num_nodes
    store.add("nodes", num_nodes)
    by_thread: dict[int, str] = {}
    monkeypatch.setattr(addresses, "own_address", lambda *words: by_thread[threading.get_ident()])
    monkeypatch.setattr(addresses, "CONNECT_SECONDS", 0.5)

    def node(rank: int) -> None:
        by_thread[threading.get_ident()] = own.get(rank, "127.0.0.1")
        try:
            check_addresses(Placement(rank, num_nodes, 0, 1, "srun"), store, "gloo", WAIT)
        except LaunchError as fault:
            said[rank] = str(fault)

    threads = [threading.Thread(target=node, args=(rank,)) for rank in range(num_nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return said


def test_nodes_that_reach_each_other_go_on(monkeypatch):
    assert together(5, {}, monkeypatch) == [""] * 5


def test_node_that_is_not_reached_is_named_by_all(monkeypatch):
    connect = addresses.connect
    monkeypatch.setattr(addresses, "connect", lambda node, address, port: connect(node, address, "1" if address == "127.0.0.2" else port))
    said = together(4, {2: "127.0.0.2"}, monkeypatch)
    assert len(set(said)) == 1 and "at 127.0.0.2" in said[0] and "set network_interface in the site file" in said[0]
