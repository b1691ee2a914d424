"""The process between a command and its ranks on this machine: it imports once, forks the ranks and waits for them.

    python -m codemix_megatron.cli.ranks NPROC PORT train recipe.yaml --folder runs/mine

Measured on two cores: importing torch and megatron-core takes 4 CPU-seconds, which torchrun spends on every rank, and 2.5 more
on itself. Ranks find their numbers where torchrun would leave them, in RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

import ctypes
import gc
import importlib
import os
import signal
import sys
import time

from codemix_megatron.errors import STOPPED_EARLY
from codemix_megatron.launch.local import KILL_AFTER_SECONDS, end_with_parent

__all__ = ["main"]

NAME_THIS_PROCESS = 15  # PR_SET_NAME of prctl(2): what ps and top show


def main(words: list[str]) -> int:
    """Fork the ranks; return 0 when none failed, else the exit code of the first that did. In a rank, return its own."""
    size, port, command = int(words[0]), int(words[1]), words[2:]
    gc.disable()  # a seventh of an import's time goes into looking for garbage that modules do not leave
    import_before_forking(command)
    gc.freeze()  # else a rank that collects garbage copies every page it shares with the others
    here, ranks = os.getpid(), {}  # process id -> rank
    for rank in range(size):
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            end_with_parent(here)
            return be_rank(rank, size, port, command)
        ranks[process] = rank
    return wait_for(ranks)


def import_before_forking(command: list[str]) -> None:
    """Import what every rank of the command needs, and nothing that starts threads or speaks to a GPU's driver.

    A process forked after the driver was asked anything cannot use it, and importing megatron-core asks; with a torch
    that was built for CUDA each rank imports the rest itself.
    """
    import torch

    if not torch.backends.cuda.is_built() and (command[0] == "train" or "--live" in command):
        from codemix_megatron.megatron.importing import import_megatron

        import_megatron()
        importlib.import_module("codemix_megatron.train.run" if command[0] == "train" else "codemix_megatron.evaluate.live")


def be_rank(rank: int, size: int, port: int, command: list[str]) -> int:
    """Run the command as one rank and return its exit code."""
    from codemix_megatron.cli.main import main as run_command

    gc.enable()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(NAME_THIS_PROCESS, f"codemix rank {rank}".encode(), 0, 0, 0)
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in variables.items()}})
    sys.argv = ["codemix", *command]
    return run_command(command)


def wait_for(ranks: dict[int, int]) -> int:
    """Wait until all ranks have ended; after the first failure the others get a short while, then they are killed."""
    first, deadline = 0, float("inf")
    while ranks:
        process, status = os.waitpid(-1, os.WNOHANG if first else 0)
        if process == 0:
            if time.monotonic() > deadline:
                send(signal.SIGKILL, ranks)
            time.sleep(0.05)
            continue
        rank, code = ranks.pop(process), os.waitstatus_to_exitcode(status)
        if code not in (0, STOPPED_EARLY) and not first:
            first, deadline = code, time.monotonic() + KILL_AFTER_SECONDS
            sys.stderr.write(f"failed (exitcode: {code}) local_rank: {rank} (pid: {process})\n")  # launch/local.py reads this
            sys.stderr.flush()
            send(signal.SIGTERM, ranks)
    return 1 if first < 0 else first


def send(number: int, ranks: dict[int, int]) -> None:
    """Signal ranks that have not been waited for yet."""
    for process in ranks:
        os.kill(process, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
