"""Write failures of the machine, raised as errors that say how much space is needed."""

import errno
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from codemix_megatron.errors import MACHINE_FAULT, CorpusError

__all__ = ["explaining_write_faults"]

# EFBIG is a limit on the size of files, EDQUOT on those of a user.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explaining_write_faults(path, needed_bytes: Callable[[], int] | None = None):
    """Turn an OSError inside into a CorpusError with exit code 1 that names the path.

    `needed_bytes` is asked after the failure, when partial files are gone, for the estimated size of the whole.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno not in FULL:
            raise CorpusError(f"{fault.filename or path}: cannot be written ({fault.strerror or fault})", exit_code=MACHINE_FAULT) from None
        folder = next(parent for parent in Path(path).absolute().parents if parent.exists())
        needed = f"about {needed_bytes():,} bytes are needed, " if needed_bytes else ""
        raise CorpusError(
            f"{path}: {fault.strerror}: {needed}{shutil.disk_usage(folder).free:,} are free in {folder};"
            " make room and run the same command again, or set another prefix",
            exit_code=MACHINE_FAULT,
        ) from None
