"""A port that was found free cannot be taken by anybody else before ranks listen on it."""

import datetime
import os
import socket

import pytest
import torch.distributed as dist

from codemix_megatron.ports import listen_on, reserve_port

WAIT = datetime.timedelta(seconds=10)


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,)])
def test_reserved_port_is_refused_to_other_programs(options):
    with reserve_port() as held, socket.socket() as other:
        for option in options:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("", held.getsockname()[1]))


def test_two_reservations_never_have_one_port():
    with reserve_port() as held, pytest.raises(OSError, match="in use"):
        reserve_port(held.getsockname()[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which needs root")
def test_other_user_cannot_share_a_reserved_port():
    with reserve_port() as held:
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                listen_on(held.getsockname()[1], "127.0.0.1").close()
            except OSError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", socket.gethostname()])
def test_torch_serves_a_store_on_a_port_that_is_still_reserved(address):
    with reserve_port() as held:
        port = held.getsockname()[1]
        server = listen_on(port, address)
        store = dist.TCPStore(address, port, 2, True, WAIT, wait_for_workers=False, master_listen_fd=server.detach())
        client = dist.TCPStore(address, port, 2, False, WAIT, wait_for_workers=False)
        client.set("key", "value")
        assert store.get("key") == b"value"


def test_ranks_of_this_machine_are_not_reachable_from_others():
    with listen_on(0, "127.0.0.1") as server:
        assert server.getsockname()[0] == "127.0.0.1"
