"""Real clients of the store of benchmarks/scale.py: ranks FIRST to LAST (left out) of SIZE, each on a thread of this process.

    python benchmarks/scale_clients.py FIRST LAST SIZE

Says `ready`, waits for a line, and prints the CPU seconds that all of them took to meet.
"""

import sys
import threading
import time
from datetime import timedelta

from codemix_megatron.parallel.limits import raise_limits
from codemix_megatron.parallel.meeting import meet
from codemix_megatron.placement import Place

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
    began = time.process_time()
    places = [Place(rank, size, rank % RANKS_PER_NODE, RANKS_PER_NODE, "torchrun") for rank in range(first, last)]
    threads = [threading.Thread(target=meet, args=(place, WAIT)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{time.process_time() - began}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
