"""Which address of its own a node gives to others, and whether they reach it: looked at before ranks connect to each other.

gloo gives out what a node's own name resolves to, which on Debian and Ubuntu is 127.0.1.1: every other node then connects to itself, and
a healthy node looks dead. A wrong `network_interface` ends the same way. Here each node's first rank finds its address, listens on it
and connects to the next node's; every rank names what does not work, with the key that sets it.
"""

import datetime
import os
import socket
from contextlib import closing
from ipaddress import ip_address

import psutil
import torch.distributed as dist

from codemix_megatron.errors import LaunchError
from codemix_megatron.placement import Placement, meeting_address, node_name

__all__ = ["addresses_here", "check_addresses", "in_words", "resolved"]

CONNECT_SECONDS = 10.0
VARIABLES = {"gloo": "GLOO_SOCKET_IFNAME", "nccl": "NCCL_SOCKET_IFNAME"}
MAIN_ADDRESS, FAULT, TESTED = "main address", "address fault", "addresses are tested"


def check_addresses(placement: Placement, store: dist.Store, backend: str, wait: datetime.timedelta) -> None:
    """Choose the interface gloo gives out where it would choose a loopback, and test that each node reaches the next one.

    Every rank calls this, after all of them have come to the store; a few requests of each. Raises LaunchError on all of them or none.
    """
    if placement.size == placement.local_size:
        return
    own = None
    try:
        address = own_address(placement, store, backend)
        if placement.local_rank == 0:
            own = reach_next_node(store, address, wait)
    except LaunchError as fault:
        report_first(store, fault)
        store.set(TESTED, "no")
        raise
    store.wait([TESTED], wait)
    if store.check([FAULT]):
        code, _, text = store.get(FAULT).decode().partition(" ")
        first = LaunchError(text, exit_code=int(code))
        first.is_carried = text != str(own)
        raise first


def report_first(store: dist.Store, fault: LaunchError) -> None:
    """Leave a fault for all ranks to raise, unless another node has left one before."""
    store.compare_set(FAULT, "", f"{fault.exit_code} {fault}")


def own_address(placement: Placement, store: dist.Store, backend: str) -> str:
    """Return the address this node gives to others; where gloo would give out a loopback another interface is set for it."""
    there = addresses_here()
    if wanted := os.environ.get(VARIABLES[backend], ""):
        return address_of_interface(wanted, there, VARIABLES[backend])
    named = [address for address in resolved(socket.gethostname()) if address in there.values()]
    main = address_of_main(placement, store, has_own=bool(named))
    if named:
        return named[0]
    address = address_towards(main) if main else next(iter(there.values()), "")
    if address not in there.values():
        raise LaunchError(
            f"{node_name()}: its name {socket.gethostname()} resolves to a loopback, and no interface leads to the main rank;"
            f" set network_interface in the site file ({VARIABLES[backend]}); there are {in_words(there)}",
            exit_code=2,
        )
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for name, own in there.items() if own == address)
    return address


def addresses_here() -> dict[str, str]:
    """Return interface -> its first address that is no loopback and no link-local one, IPv4 before IPv6."""
    found = {}
    for name, entries in psutil.net_if_addrs().items():
        known = sorted((e.family, e.address.partition("%")[0]) for e in entries if e.family in (socket.AF_INET, socket.AF_INET6))
        usable = [text for _, text in known if not (ip_address(text).is_loopback or ip_address(text).is_link_local)]
        if usable:
            found[name] = usable[0]
    return found


def address_of_interface(wanted: str, there: dict[str, str], variable: str) -> str:
    """Return the address of the first interface a variable names, as NCCL reads it: a list of prefixes, `=` before exact names, `^` all but."""
    names, sign = wanted.lstrip("^=").split(","), wanted[0]
    matches = [name for name in there if any(name == n if sign == "=" else name.startswith(n) for n in names)]
    chosen = [name for name in there if name not in matches] if sign == "^" else matches
    if not chosen:
        raise LaunchError(
            f"{node_name()}: network_interface ({variable}) is {wanted}, and this node has no such interface with an address;"
            f" there are {in_words(there)}",
            exit_code=2,
        )
    return there[chosen[0]]


def resolved(host: str) -> list[str]:
    """Return the addresses of a name that are no loopback."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    texts = [str(entry[4][0]).partition("%")[0] for entry in found]
    return [text for text in texts if not ip_address(text).is_loopback]


def address_of_main(placement: Placement, store: dist.Store, has_own: bool) -> str | None:
    """Return the main rank's address as this node has it, or as another node has it where the name is a loopback here."""
    if found := resolved(meeting_address(placement)[0]):
        if placement.local_rank == 0:
            store.set(MAIN_ADDRESS, found[0])
        return found[0]
    if has_own:
        return None
    try:
        store.wait([MAIN_ADDRESS], datetime.timedelta(seconds=CONNECT_SECONDS))
    except RuntimeError:  # it is a loopback everywhere, such as that of a test
        return None
    return store.get(MAIN_ADDRESS).decode()


def address_towards(address: str) -> str:
    """Return the address of this machine by which it would reach another one; nothing is sent."""
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def reach_next_node(store: dist.Store, address: str, wait: datetime.timedelta) -> LaunchError | None:
    """Listen on this node's address until all nodes have tried, and connect to that of the next one; return why that failed, if it did.

    A node that has failed listens on too: closed, it would be one more that is not reached.
    """
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        number, nodes = store.add("node", 1) - 1, store.add("nodes", 0)
        store.set(f"address {number}", f"{node_name()} {address} {server.getsockname()[1]}")
        following = f"address {(number + 1) % nodes}"
        store.wait([following], wait)
        fault = None
        try:
            connect(*store.get(following).decode().split())
        except LaunchError as refusal:
            fault = refusal
            report_first(store, refusal)
        if store.add("tested", 1) == nodes:
            store.set(TESTED, "yes")
        store.wait([TESTED], wait)
    return fault


def connect(node: str, address: str, port: str) -> None:
    """Connect to another node once; raises LaunchError when it does not answer."""
    try:
        with closing(socket.create_connection((address, int(port)), timeout=CONNECT_SECONDS)):
            return
    except OSError as fault:
        raise LaunchError(
            f"{node_name()} does not reach {node} at {address} ({str(fault).lower()}); if nodes reach each other by another interface, set"
            f" network_interface in the site file; {node_name()} has {in_words(addresses_here())}"
        ) from None


def in_words(there: dict[str, str]) -> str:
    """Return interfaces and their addresses as a list to read."""
    return ", ".join(f"{name} {address}" for name, address in there.items()) or "none with an address"
