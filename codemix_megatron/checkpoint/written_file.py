"""WrittenFile: hashed and brought to disk behind the writer's back, so that neither costs time of its own."""

import hashlib
import os
import threading
from pathlib import Path

__all__ = ["WrittenFile"]

BLOCK_BYTES = 2**23
FLUSH_BYTES = 2**26


class WrittenFile:
    """A binary file that is appended to. `close` returns when it is on disk; `sha256` is known then."""

    def __init__(self, path: Path, hashed: bool):
        self.path, self.file = path, open(path, "w+b", buffering=0)  # noqa: SIM115 - closed in close
        self.written, self.done = 0, False
        self.fault: OSError | None = None
        self.sha256: str | None = None
        self.grown = threading.Condition()
        works = [self.bring_to_disk, self.hash] if hashed else [self.bring_to_disk]
        self.threads = [threading.Thread(target=self.follow, args=(work,), daemon=True) for work in works]
        for thread in self.threads:
            thread.start()

    def write(self, data) -> int:
        """Append bytes, or what has the buffer protocol."""
        left = memoryview(data).cast("B")
        total = len(left)
        while left:
            left = left[self.file.write(left) :]
        with self.grown:
            self.written += total
            self.grown.notify_all()
        return total

    def tell(self) -> int:
        """Return the bytes written."""
        return self.written

    def flush(self) -> None:
        """Do nothing: there is no buffer. torch.save asks for it."""

    def close(self) -> None:
        """Wait until all is hashed and on disk; raises the OSError that kept it from it."""
        with self.grown:
            self.done = True
            self.grown.notify_all()
        for thread in self.threads:
            thread.join()
        self.file.close()
        if self.fault is not None:
            raise self.fault

    def wait_for_more(self, position: int, wanted: int) -> int:
        """Wait until `wanted` bytes after `position` are written, or all are; return how many there are."""
        with self.grown:
            self.grown.wait_for(lambda: self.done or self.written - position >= wanted)
            return self.written - position

    def follow(self, work) -> None:
        """Run one of the two works; keep its fault for `close`."""
        try:
            work()
        except OSError as fault:
            self.fault = fault

    def bring_to_disk(self) -> None:
        """Bring to disk what was written, every now and then and at the end."""
        position = 0
        while new := self.wait_for_more(position, FLUSH_BYTES):
            os.fdatasync(self.file.fileno())
            position += new
        os.fsync(self.file.fileno())

    def hash(self) -> None:
        """Read back what was written while it is in the page cache."""
        digest, block, position = hashlib.sha256(), memoryview(bytearray(BLOCK_BYTES)), 0
        while new := self.wait_for_more(position, BLOCK_BYTES):
            found = os.preadv(self.file.fileno(), [block[: min(new, BLOCK_BYTES)]], position)
            digest.update(block[:found])
            position += found
        self.sha256 = digest.hexdigest()
