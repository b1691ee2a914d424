"""Files of JSON lines that are appended to: a crash may have left the last line torn, or without its end."""

import json
import os
from pathlib import Path

__all__ = ["complete_lines", "end_last_line"]


def complete_lines(path) -> list[bytes]:
    """Return the lines of a file that may be appended to; the last counts where it is whole and lacks its end alone. Nothing is changed."""
    whole, _, last = Path(path).read_bytes().rpartition(b"\n")
    return [*whole.split(b"\n"), *([last] if is_json(last) else [])]


def end_last_line(path: Path) -> None:
    """Cut a line off that a crash left torn, as readers leave it out: what is appended to it would be no JSON either."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    with open(path, "rb+") as handle:
        handle.seek(-1, os.SEEK_END)
        if handle.read(1) == b"\n":
            return
        handle.seek(0)
        whole, _, last = handle.read().rpartition(b"\n")
        if is_json(last):
            handle.write(b"\n")  # it lacks its end alone
        else:
            handle.truncate(len(whole) + 1 if whole else 0)


def is_json(line: bytes) -> bool:
    """Say whether a line is JSON as a whole."""
    try:
        json.loads(line)
        return True
    except ValueError:
        return False
