"""Limits of this process that a large start runs into: open files, and memory that may be locked."""

import resource
import socket

from codemix_megatron.errors import LaunchError

__all__ = ["raise_limits"]

LIBRARY_FILES = 64  # open files of Python, torch and a run beside the connections; measured: 45
CORPUS_FILES = 448  # more, for corpora and checkpoints


def raise_limits(size: int) -> None:
    """Raise this process's soft limits to what `size` ranks need; raises LaunchError where the hard limit does not allow it.

    The main rank's store has a connection from every rank, and gloo connects every rank with every other one. Where files are short,
    torch only says that a peer closed its connection.
    """
    needed = size + LIBRARY_FILES + CORPUS_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if 0 <= soft < size + LIBRARY_FILES:
        raise LaunchError(
            f"{socket.gethostname()}: at most {hard} open files are allowed (ulimit -Hn), and {size} ranks need {needed}, one for the"
            " connection to each of them and some more; raise the limit (limits.conf, LimitNOFILE of slurmd) or train on fewer ranks",
            exit_code=2,
        )
    _, locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (locked, locked))  # InfiniBand registers buffers as locked memory
