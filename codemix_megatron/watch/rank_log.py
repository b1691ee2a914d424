"""RUN/logs/rank-N.log: everything one rank says, each line with its moment, to the last line before its end.

Python's streams write through without a buffer and put a time stamp before every line. File descriptors 1 and 2 lead into
the same file, so that what native code says in its last moment (C++'s terminate, faulthandler) is there too, unstamped.
The main rank's lines also go where they went before. Above some hundred ranks those of a node share a file (node_log.py). No torch.
"""

import faulthandler
import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.redaction import redact_words
from codemix_megatron.watch.node_log import join_node_log, merges_output, node_log_path
from codemix_megatron.watch.rank_environment import node_name, own_rank, start_id

__all__ = ["lead_output", "rank_log_path", "say_inside", "say_outside"]


outside: dict[str, int] = {}  # where this process's streams went before; as its descriptors 1 and 2, there is one of each


def rank_log_path(run: RunFolder, rank: int, node: str | None = None) -> Path:
    """Return where a rank's own output is: its file, or that of its node where ranks share one."""
    own = run.logs / f"rank-{rank}.log"
    shared = node_log_path(run, node) if node else own
    return shared if shared.exists() and not (own.exists() and own.stat().st_mtime > shared.stat().st_mtime) else own


def lead_output(run: RunFolder) -> None:
    """Lead this rank's output into its file from here on, beginning with a line that says which start it is."""
    rank = own_rank()
    shared = join_node_log(run, rank) if merges_output() else None
    file, was_cut = own_file(run, rank) if shared is None else (shared, False)
    for name, number in (("stdout", 1), ("stderr", 2)):
        getattr(sys, name).flush()
        outside[name] = os.dup(number)
        os.dup2(file, number)
        stamped = StampedFile(number, outside[name] if rank == 0 else None)
        setattr(sys, name, io.TextIOWrapper(stamped, encoding="utf-8", errors="backslashreplace", write_through=True))
    os.close(file)
    faulthandler.enable(file=2)
    first_line = f"start {start_id()}: rank {rank} on {node_name()}, pid {os.getpid()}: {' '.join(redact_words(sys.argv))}\n"
    write_all(1, b"\n" if was_cut else b"")
    StampedFile(1).write(first_line.encode())


def own_file(run: RunFolder, rank: int) -> tuple[int, bool]:
    """Return a descriptor of a rank's own file, and whether the end of an earlier start cut its last line."""
    path = run.logs / f"rank-{rank}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    size = os.fstat(file).st_size
    return file, size > 0 and os.pread(file, 1, size - 1) != b"\n"


def say_outside(text: str) -> None:
    """Write a line where stderr went before; the main rank's lines go there anyway."""
    if outside and own_rank() != 0:
        write_all(outside["stderr"], f"{text}\n".encode())


def say_inside(text: str) -> None:
    """Write lines into this rank's file alone."""
    StampedFile(2).write(text.encode())


class StampedFile(io.RawIOBase):
    """A file descriptor that gets the moment before each line; `copy` gets the same without."""

    def __init__(self, descriptor: int, copy: int | None = None):
        self.descriptor, self.copy, self.is_line_start = descriptor, copy, True

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.descriptor

    def write(self, data) -> int:
        """Write at once; never fails, for training continues without its log."""
        data = bytes(data)
        if data:
            moment = f"{datetime.now(UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}Z ".encode()
            ends_line = data.endswith(b"\n")
            body = data.removesuffix(b"\n").replace(b"\n", b"\n" + moment) + (b"\n" if ends_line else b"")
            write_all(self.descriptor, (moment if self.is_line_start else b"") + body)
            self.is_line_start = ends_line
            if self.copy is not None:
                write_all(self.copy, data)
        return len(data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything; what a full disk or a reader that has left refuses is lost."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        return
