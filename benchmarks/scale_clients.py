"""Real clients of the store of benchmarks/scale.py: ranks FIRST to LAST (left out) of SIZE, each on a thread of this process.

    python benchmarks/scale_clients.py FIRST LAST SIZE

Says `ready`, waits for a line, and prints the CPU seconds that all of them took to meet: those of their threads from call to return. Making a
thread is no rank's work, and CPython 3.11 goes through all others when it starts one that is no daemon, which grew as the square of clients.
"""

import sys
import threading
import time
from datetime import timedelta

from codemix_megatron.parallel.limits import raise_limits
from codemix_megatron.parallel.meeting import meet
from codemix_megatron.placement import Placement

RANKS_PER_NODE = 8
WAIT = timedelta(seconds=300)


def main(first: int, last: int, size: int) -> None:
    """Meet, and print what it took."""
    raise_limits(2 * (last - first))
    threading.stack_size(512 << 10)
    sys.setswitchinterval(60.0)  # as in scale.py
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    placements = [Placement(rank, size, rank % RANKS_PER_NODE, RANKS_PER_NODE, "torchrun") for rank in range(first, last)]
    spent: list[float] = []
    threads = [threading.Thread(target=meet_timed, args=(placement, spent), daemon=True) for placement in placements]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(spent) < len(placements):
        sys.exit(f"{len(placements) - len(spent)} of {len(placements)} clients did not meet")
    sys.stdout.write(f"{sum(spent)}\n")


def meet_timed(placement: Placement, spent: list[float]) -> None:
    """Meet as one rank, and add the CPU seconds of this thread."""
    began = time.thread_time()
    meet(placement, WAIT)
    spent.append(time.thread_time() - began)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
