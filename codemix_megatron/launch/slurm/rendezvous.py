"""Where the ranks of one start meet: an address of its first node, and a port that no earlier start has used and that this one holds."""

import socket

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.slurm.commands import node_address
from codemix_megatron.ports import reserve_port

__all__ = ["hold_port", "master_address"]

FIRST_PORT, NUM_PORTS = 20000, 12000  # below the ports that Linux hands out by itself (32768 and up)
STARTS_APART = 16
TRIES = 200


def master_address(node: str) -> str:
    """Return the name of a node where it resolves, else the address Slurm has for it."""
    try:
        socket.getaddrinfo(node, None)
    except OSError:
        return node_address(node) or node
    return node


def hold_port(job: int, restarts: int) -> socket.socket:
    """Hold a port of this machine that differs between the starts of a job; the main rank, on this machine too, listens on it.

    Ranks of an old start that still die, and sockets it left waiting, are on another port; one that somebody else holds is skipped.
    """
    offset = (job * STARTS_APART + restarts) % NUM_PORTS
    for attempt in range(TRIES):
        try:
            return reserve_port(FIRST_PORT + (offset + attempt * 61) % NUM_PORTS)
        except OSError:
            continue
    raise LaunchError(f"none of {TRIES} ports from {FIRST_PORT} on is free on {socket.gethostname()}")
