"""Where ranks find each other: a store that the main rank serves, and a count of those that have come."""

import datetime
import os
import socket

import torch.distributed as dist

from codemix_megatron.errors import LaunchError
from codemix_megatron.placement import Placement, meeting_address
from codemix_megatron.ports import listen_on

__all__ = ["meet"]

ALL_CAME = "all came"


def meet(placement: Placement, wait: datetime.timedelta) -> dist.Store:
    """Return the store through which ranks find each other, once all of them have come to it.

    Each rank adds one to a count, and the last one says that all are there: the store answers a few requests of each rank, however
    many there are. Raises LaunchError within `wait`; torch, which makes a store by itself, says only how many came.
    """
    if placement.size == 1:
        return dist.HashStore()
    store = dist.PrefixStore(f"codemix/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", open_store(placement, wait))
    store.set(f"rank-{placement.rank}", "came")
    if placement.local_rank == 0:
        store.add("nodes", 1)
    if store.add("count", 1) == placement.size:
        store.set(ALL_CAME, "yes")
    try:
        store.wait([ALL_CAME], wait)
    except RuntimeError:
        raise never_came(placement, store, wait) from None
    return store


def never_came(placement: Placement, store: dist.Store, wait: datetime.timedelta) -> LaunchError:
    """Return the error of a rank that waited in vain; the main rank, whose store it is, asks which ranks are missing."""
    seconds, count = f"{wait.total_seconds():.0f} s", store.add("count", 0)
    if placement.rank == 0:
        absent = [str(other) for other in range(placement.size) if not store.check([f"rank-{other}"])]
        who = f"rank {absent[0]}" if len(absent) == 1 else f"ranks {', '.join(absent)}"
        text = f"{who} never came; see logs/rank-N.log of those"
    else:
        text = f"{count} of them came; rank 0 says which did not"
    return LaunchError(f"rank {placement.rank} of {placement.size} could not join the others within {seconds}: {text}")


def open_store(placement: Placement, wait: datetime.timedelta) -> dist.TCPStore:
    """Return a client of the store; the main rank serves it, on a port that what launched it may hold for it."""
    address, port = meeting_address(placement)
    hosted = placement.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # else torchrun has it already
    if not hosted:
        return dist.TCPStore(address, port, placement.size, False, wait, wait_for_workers=False)
    try:
        server = listen_on(port, address)
    except OSError as fault:
        raise LaunchError(
            f"rank 0: MASTER_PORT {port} on {socket.gethostname()}: {(fault.strerror or str(fault)).lower()}; give ranks a port nobody uses"
        ) from fault
    bound = server.getsockname()[1]
    return dist.TCPStore(
        address, bound, placement.size, True, wait, wait_for_workers=False, multi_tenant=True, master_listen_fd=server.detach()
    )
