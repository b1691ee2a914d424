"""Processes that do the parts of a corpus; one part at a time each, whichever is next."""

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from codemix_megatron.cores import available_cores
from codemix_megatron.corpus.part_encoding import Advance, PartEncoding
from codemix_megatron.errors import MACHINE_FAULT, CodemixError, CorpusError, machine_fault

__all__ = ["encode_parts", "worthwhile_workers"]

BYTES_PER_WORKER = 256 << 20  # a process costs about a second to start, in which a fast tokenizer does 50 MB
SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_TO_END = 10


def worthwhile_workers(num_bytes: int) -> int:
    """Return how many processes are worth starting for input of this size; 1 means none but this one."""
    return max(1, min(available_cores(), num_bytes // BYTES_PER_WORKER))


def encode_parts(work: PartEncoding, numbers: list[int], num_workers: int, advance: Advance) -> None:
    """Do the parts of these numbers; `advance` is called with bytes, documents and tokens. Finished parts survive any failure."""
    num_workers = min(num_workers, len(numbers))
    if num_workers > 1:
        WorkerPool(work, numbers, num_workers).run(advance)
        return
    for number in numbers:
        work.encode(number, advance)


class WorkerPool:
    """Started processes, and what they share: the index of the next part, and how far each has come."""

    def __init__(self, work: PartEncoding, numbers: list[int], num_workers: int):
        context = multiprocessing.get_context("spawn")  # a forked process inherits locks of threads it does not have
        self.next = context.Value(ctypes.c_int64, 0)
        self.told = context.RawArray(ctypes.c_int64, 3 * num_workers)
        threads = max(1, available_cores() // num_workers)
        self.pipes, self.processes = [], []
        for worker in range(num_workers):
            receiver, sender = context.Pipe(duplex=False)
            arguments = (work, numbers, self.next, self.told, worker, sender, threads)
            self.processes.append(context.Process(target=work_on_parts, args=arguments, daemon=True))
            self.pipes.append((receiver, sender))

    def run(self, advance: Advance) -> None:
        """Start the processes and wait for them; raises what the first of them failed of."""
        before = [0, 0, 0]
        try:
            for process, (_, sender) in zip(self.processes, self.pipes, strict=True):
                process.start()
                sender.close()
            while any(process.is_alive() for process in self.processes):
                connection.wait([process.sentinel for process in self.processes if process.is_alive()], SECONDS_BETWEEN_LOOKS)
                before = self.report_progress(advance, before)
                self.raise_failure()
            self.raise_failure()
            self.report_progress(advance, before)
        finally:
            self.end()

    def report_progress(self, advance: Advance, before: list[int]) -> list[int]:
        """Report what all workers did since the last time."""
        now = [sum(self.told[i::3]) for i in range(3)]
        if now != before:
            advance(*(a - b for a, b in zip(now, before, strict=True)))
        return now

    def raise_failure(self) -> None:
        """Raise the error of a worker that ended with one, or say that it was killed."""
        for process, (receiver, _) in zip(self.processes, self.pipes, strict=True):
            if process.exitcode in (None, 0):
                continue
            try:
                raise receiver.recv() if receiver.poll() else EOFError
            except EOFError:
                how = f"killed by signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
                raise CorpusError(
                    f"a worker process ended early ({how}; 9 is often the system running out of memory);"
                    " the same command resumes from the finished parts; fewer --workers may help",
                    exit_code=MACHINE_FAULT,
                ) from None

    def end(self) -> None:
        """End all processes and wait until they are gone."""
        for process in self.processes:
            if process.pid and process.is_alive():
                process.terminate()
        deadline = time.monotonic() + SECONDS_TO_END
        for process in self.processes:
            if process.pid:
                process.join(max(0.0, deadline - time.monotonic()))
                if process.is_alive():
                    process.kill()
                    process.join(SECONDS_TO_END)


def work_on_parts(work: PartEncoding, numbers, shared_next, told: Any, worker: int, sender, threads: int) -> None:
    """Do parts until none is left; what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first ends the others
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # read when a tokenizer first encodes
    threading.Thread(target=leave_with_parent, daemon=True).start()

    def advance(num_bytes: int, documents: int, tokens: int) -> None:
        for i, amount in enumerate((num_bytes, documents, tokens)):
            told[3 * worker + i] += amount

    try:
        while (number := take_next(shared_next, numbers)) is not None:
            work.encode(number, advance)
    except CodemixError as error:
        fail(sender, error)
    except OSError as fault:
        fail(sender, fault if fault.errno is not None else machine_fault(fault))


def take_next(shared_next, numbers: list[int]) -> int | None:
    """Return the next part nobody has taken."""
    with shared_next.get_lock():
        index = shared_next.value
        shared_next.value += 1
    return numbers[index] if index < len(numbers) else None


def fail(sender, error: Exception) -> None:
    """Hand an error to the process that started this one, and leave."""
    sender.send(error)
    sender.close()
    os._exit(1)


def leave_with_parent(parent: Callable = multiprocessing.parent_process) -> None:
    """End this process when the one that started it is gone, however it went."""
    connection.wait([parent().sentinel])
    os._exit(1)
