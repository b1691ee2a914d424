"""RUN/logs/node-NAME.log: what all ranks of a node say, each line behind its rank's number. No torch.

A process of its own, which the node's first rank starts, takes the ranks' output through a socket in the node's memory: what a rank said last is
in the socket when it dies, whatever ends it, so native code's last words are there too, and no rank waits for another. The file is bounded: at
its limit it becomes node-NAME.log.1 in the place of the one before. The process ends when all its ranks have.
"""

import contextlib
import hashlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from codemix_megatron.placement import find_placement, node_name
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.rank_environment import start_id

__all__ = ["NodeLog", "join_node_log", "main", "merges_output", "node_log_path"]

MANY_RANKS = 256  # above, one file for each node instead of each rank
MOST_BYTES = 256 << 20  # of a file; there are at most two for a node
LONGEST_LINE = 64 << 10
CONNECT_SECONDS, IDLE_SECONDS, FIRST_SECONDS = 15.0, 2.0, 60.0
MEMORY = Path("/dev/shm")
SETTING, SIZE = "CODEMIX_RANK_LOGS", "CODEMIX_NODE_LOG_BYTES"


def node_log_path(run: RunFolder, node: str) -> Path:
    """Return the file of a node's ranks."""
    return run.logs / f"node-{node}.log"


def merges_output() -> bool:
    """Say whether ranks of a node share a file: where there are many of them, or CODEMIX_RANK_LOGS says `node`."""
    placement, setting = find_placement(), os.environ.get(SETTING)
    return placement is not None and (setting == "node" or (setting != "rank" and placement.size > MANY_RANKS))


def join_node_log(run: RunFolder, rank: int) -> int | None:
    """Return a descriptor that leads into this node's file; None where that cannot be had, and the rank keeps a file of its own."""
    placement = find_placement()
    try:
        folder = socket_folder(run)
        if placement is not None and placement.local_rank == 0:
            start_collector(folder, run)
        connection = connect(folder / "socket")
        connection.sendall(b"%d\n" % rank)
        return connection.detach()
    except OSError:
        return None


def socket_folder(run: RunFolder) -> Path:
    """Return the folder of this start's socket, for this user alone; raises OSError for one that somebody else made."""
    base = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    token = hashlib.sha256(f"{run} {start_id()} {node_name()}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = base / f"codemix-log-{os.geteuid()}-{token}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = os.lstat(folder)
    if state.st_uid != os.geteuid() or state.st_mode & 0o077 or folder.is_symlink():
        raise PermissionError(f"{folder} is not this user's")
    return folder


def start_collector(folder: Path, run: RunFolder) -> None:
    """Start the process that writes the file, in a session of its own so that no signal for the ranks ends it."""
    words = [sys.executable, "-m", "codemix_megatron.watch.node_log", str(folder), str(run)]
    subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, close_fds=True
    )


def connect(path: Path) -> socket.socket:
    """Return a connection to the collecting process, waiting for it to begin."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


class NodeLog:
    """A bounded file that lines are appended to."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES):
        self.path, self.most_bytes = path, most_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115 - as long as the process

    def write(self, rank: str, lines: bytes) -> None:
        """Append whole lines of a rank; a full disk loses them, for ranks must not wait for it."""
        prefix = f"[{rank}] ".encode()
        data = b"".join(prefix + line + b"\n" for line in lines.split(b"\n"))
        with contextlib.suppress(OSError):
            if self.file.tell() + len(data) > self.most_bytes and self.file.tell():
                self.file.close()
                os.replace(self.path, f"{self.path}.1")
                self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115
            self.file.write(data)


class Collector:
    """Takes what ranks say until the last one has left."""

    def __init__(self, listening: socket.socket, log: NodeLog):
        self.listening, self.log, self.selector = listening, log, selectors.DefaultSelector()
        self.said: dict[socket.socket, bytearray] = {}
        self.ranks: dict[socket.socket, str] = {}
        self.selector.register(listening, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve; ends when no rank is connected any more, or none ever came."""
        alone_since, patience = time.monotonic(), FIRST_SECONDS
        while self.said or time.monotonic() - alone_since < patience:
            for key, _ in self.selector.select(0.5):
                if key.fileobj is self.listening:
                    self.accept()
                    patience = IDLE_SECONDS
                else:
                    self.read(key.fileobj)  # type: ignore[arg-type]
            if self.said:
                alone_since = time.monotonic()

    def accept(self) -> None:
        """Let one more rank in."""
        connection, _ = self.listening.accept()
        self.said[connection] = bytearray()
        self.selector.register(connection, selectors.EVENT_READ)

    def read(self, connection: socket.socket) -> None:
        """Take what a rank has said, and write its complete lines; of one that has ended, all of it."""
        try:
            data = connection.recv(1 << 16)
        except OSError:
            data = b""
        said = self.said[connection]
        said += data
        if connection not in self.ranks and b"\n" in said:
            number, _, rest = bytes(said).partition(b"\n")
            self.ranks[connection], said[:] = number.decode("ascii", "replace"), rest
        whole = len(said) if not data or len(said) > LONGEST_LINE else said.rfind(b"\n") + 1
        if whole and connection in self.ranks:
            lines = bytes(said[:whole]).removesuffix(b"\n")
            del said[:whole]
            self.log.write(self.ranks[connection], lines)
        if not data:
            self.selector.unregister(connection)
            connection.close()
            del self.said[connection]


def main(words: list[str] | None = None) -> int:
    """Collect the output of this node's ranks: FOLDER of the socket, RUN."""
    folder, run = sys.argv[1:] if words is None else words
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are for the ranks, whose last words are still to come
    path = Path(folder) / "socket"
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1024)
        own = path.stat().st_ino
        most = os.environ.get(SIZE, "")
        Collector(listening, NodeLog(node_log_path(RunFolder(run), node_name()), int(most) if most.isdigit() else MOST_BYTES)).run()
    with contextlib.suppress(OSError):
        if path.stat().st_ino == own:  # else it is a later start's
            path.unlink()
            path.parent.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
