"""One start at a time in a run folder. No torch."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from codemix_megatron.errors import LaunchError

__all__ = ["RunLock"]

DYING_SECONDS = 10  # a start that was killed may still be on its way out


class RunLock:
    """Keeps other starts out of a run folder, from `take` until `release` or the end of this process."""

    def __init__(self, folder: Path, patience: float = DYING_SECONDS):
        self.path, self.patience = folder / ".lock", patience
        self.file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock, or raise LaunchError naming who has it.

        Nothing is locked where the file system has no locks, nor under Slurm, where the job before may have died on a node that cannot
        tell any more; `codemix launch` refuses a second job by itself.
        """
        if "CODEMIX_BATCH" in os.environ:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - open as long as the run
        limit = time.monotonic() + self.patience
        while not self.is_taken(file):
            if time.monotonic() > limit:
                self.release()
                raise LaunchError(
                    f"{self.path.parent}: another start trains in it ({self.path.read_text(encoding='utf-8').strip()});"
                    f" wait for it, or have it save and stop: touch {self.path.parent}/stop",
                    exit_code=2,
                )
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()

    def is_taken(self, file: IO[str]) -> bool:
        """Try to take the lock; say whether this process has it, or the file system has none."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def release(self) -> None:
        """Let others in."""
        if self.file:
            self.file.close()
