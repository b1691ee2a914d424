"""Files and folders that are complete or absent."""

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codemix_megatron.redaction import redact

__all__ = [
    "UNENCODABLE",
    "as_written",
    "json_line",
    "partial_path",
    "read_json",
    "replace_text",
    "sync_file",
    "sync_folder",
    "without_surrogates",
    "write_json",
    "writing",
    "writing_folder",
]

# Text that UTF-8 cannot hold (lone surrogates: odd file names, broken JSON) is written as \\udXXX, which JSON reads back as it was.
UNENCODABLE = "backslashreplace"


def partial_path(path) -> Path:
    """Return the name a file or folder has while it is being written."""
    path = Path(path)
    return path.with_name(f".{path.name}.partial")


@contextmanager
def writing(path, mode: str = "w"):
    """Open a file beside `path`; on success flush it to disk and rename it to `path`, else remove it.

    Of several that write one path at once each has a file of its own, and the last to end is what stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding, errors = (None, None) if "b" in mode else ("utf-8", UNENCODABLE)
    partial, descriptor = open_alone(partial_path(path), open_file)
    try:
        os.ftruncate(descriptor, 0)
        with open(descriptor, mode, encoding=encoding, errors=errors) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            os.replace(partial, path)  # while it is locked: nobody takes the file for one that was left behind
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def open_alone(partial: Path, open_at: Callable[[Path], int]) -> tuple[Path, int]:
    """Open what nobody else writes: what a process left behind there is taken over, what is in use gets another name beside it."""
    usual = partial
    while True:
        descriptor = open_at(partial)
        if not is_locked_elsewhere(descriptor) and is_at(partial, descriptor):
            return partial, descriptor
        os.close(descriptor)
        partial = usual.with_name(f"{usual.name.removesuffix('.partial')}.{uuid.uuid4().hex[:8]}.partial")


def open_file(path: Path) -> int:
    """Open a file for writing, making it where it is not there."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def open_folder(path: Path) -> int:
    """Open a folder, making it where it is not there."""
    path.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def is_locked_elsewhere(descriptor: int) -> bool:
    """Lock a file and say whether another one holds it; where a file system knows no locks, nobody is known to."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def is_at(path: Path, descriptor: int) -> bool:
    """Say whether an open file still has this name: its writer may have ended, and renamed it, since it was opened."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def writing_folder(folder, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success rename it to `folder`, else remove it.

    With `replace` it takes the place of a folder that is there, else such a one is an OSError. Of several that write one folder
    at once each has a folder of its own.
    """
    folder = Path(folder)
    partial, descriptor = open_alone(partial_path(folder), open_folder)
    try:
        empty(partial)
        yield partial
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)  # while it is locked: nobody takes it for one that was left behind
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def empty(folder: Path) -> None:
    """Remove all that a folder holds."""
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def sync_folder(folder) -> None:
    """Make renames inside `folder` survive a power loss."""
    sync_file(folder)


def sync_file(path) -> None:
    """Make what a file (or folder) holds survive a power loss, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path, text: str) -> None:
    """Write `text` to `path` atomically, without secrets."""
    with writing(path) as handle:
        handle.write(redact(text))


def write_json(path, value) -> None:
    """Write `value` as indented JSON atomically."""
    replace_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def as_written(value):
    """Return a value as `write_json` leaves it, without secrets: what a checksum that is written with it has to be of."""
    return json.loads(redact(json.dumps(value, ensure_ascii=False)))


def json_line(value) -> str:
    """Return `value` as one line of JSON; write it to a file of `writing` or in ASCII, for it may hold lone surrogates."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def without_surrogates(text: str) -> str:
    """Return text with U+FFFD for every lone surrogate: readers stricter than Python's refuse those even as \\udXXX."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_json(path):
    """Return the JSON a file holds; raises OSError or ValueError (both name the path)."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ValueError(f"{path}: not JSON: {fault}") from None
