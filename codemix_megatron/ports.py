"""A port that is found free and stays ours until ranks listen on it.

Found free and let go of, it may be taken by somebody else before it is listened on. Here it stays bound, without listening, and is
marked as shareable only after that: Linux then lets nobody bind it but processes of the same user that ask to share it, which is
what `listen_on` does in the rank that needs it. Connections reach that rank alone, for the reservation never listens.
"""

import contextlib
import socket

__all__ = ["listen_on", "reserve_port"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def reserve_port(port: int = 0, host: str = "") -> socket.socket:
    """Return a socket that holds a port (0: any free one) for as long as it is open; raises OSError where it is taken.

    Without an address of this machine in `host` it is held on all of them.
    """
    held = socket.socket()
    try:
        held.bind((host, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        held.close()
        raise
    return held


def listen_on(port: int, address: str) -> socket.socket:
    """Return a socket that listens where ranks connect: on all addresses of this machine, on the loopback where `address` is that.

    The port may be one that this user's `reserve_port` holds; raises OSError when anybody else has it.
    """
    if address in LOOPBACK:
        family, host = (socket.AF_INET6, "::1") if address == "::1" else (socket.AF_INET, "127.0.0.1")
        return listening(family, host, port)
    with contextlib.suppress(OSError):  # a machine without IPv6
        return listening(socket.AF_INET6, "::", port)
    return listening(socket.AF_INET, "", port)


def listening(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """Bind and listen; an address of IPv6 takes those of IPv4 too."""
    server = socket.socket(family)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier start that are still waiting
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind((host, port))
        server.listen(socket.SOMAXCONN)
    except OSError:
        server.close()
        raise
    return server
