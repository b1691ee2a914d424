"""One lock for everything that is written under a corpus's prefix: alone, or shared by the shards of a corpus."""

import errno
import os
from pathlib import Path

from codemix_megatron.errors import MACHINE_FAULT, CorpusError

try:
    import fcntl
except ImportError:  # not on Windows; then two commands at once are not noticed
    fcntl = None  # type: ignore[assignment]

__all__ = ["PrefixLock"]

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # what file systems without locks answer


class PrefixLock:
    """`.NAME.lock` beside a corpus, held while a command writes; whatever its settings, so that none removes what another makes.

    The system lets go of it when the process ends, however it ends. The last holder removes the file.
    """

    def __init__(self, prefix):
        self.prefix = Path(prefix)
        self.path = self.prefix.with_name(f".{self.prefix.name}.lock")
        self.handle = None

    def __getstate__(self):
        return {**self.__dict__, "handle": None}  # workers write under the lock of the process that started them

    def acquire(self, *, alone: bool) -> None:
        """Take the lock, alone or beside others that share it; raises CorpusError when another command holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while self.handle is None:
            handle = open(self.path, "ab")  # noqa: SIM115 - held until `release`
            try:
                self.lock(handle, alone)
                # Between open and lock the last holder may have removed this very file.
                if self.is_current(handle):
                    self.handle = handle
            finally:
                if self.handle is None:
                    handle.close()

    def lock(self, handle, alone: bool) -> None:
        """Lock an open file without waiting."""
        if fcntl is None:
            return
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CorpusError(
                f"{self.prefix}.bin: another command is writing it; wait for it or give another prefix", exit_code=MACHINE_FAULT
            ) from None
        except OSError as fault:
            if fault.errno not in WITHOUT_LOCKS:
                raise

    def is_current(self, handle) -> bool:
        """Say whether an open file is still the one that stands under the lock's name."""
        try:
            return os.path.samestat(os.fstat(handle.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    def become_alone(self) -> bool:
        """Say whether nobody shares the lock; from then on it is held alone."""
        if self.handle is None:
            return False
        try:
            self.lock(self.handle, alone=True)
        except CorpusError:
            return False
        return True

    def release(self) -> None:
        """Let go of the lock; its file goes with the last holder."""
        if self.handle is None:
            return
        if self.become_alone():
            self.path.unlink(missing_ok=True)
        self.handle.close()
        self.handle = None
