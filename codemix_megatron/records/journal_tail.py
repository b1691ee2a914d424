"""What comes into a run's journal while somebody looks: whole lines only, each once."""

import json
import os
from pathlib import Path

__all__ = ["JournalTail"]


class JournalTail:
    """Reads on where it stopped; a file that was put in the journal's place is read from its beginning."""

    def __init__(self, path):
        self.path = Path(path)
        self.offset, self.inode = 0, -1

    def new_lines(self) -> list[dict]:
        """Return the events added since the last call, as the journal has them; a line that is not JSON is ignored, for `codemix` names it elsewhere."""
        try:
            with open(self.path, "rb") as handle:
                inode = os.fstat(handle.fileno()).st_ino
                if inode != self.inode:
                    self.inode, self.offset = inode, 0
                handle.seek(self.offset)
                whole = handle.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        self.offset += len(whole) + 1 if whole else 0
        return [event for line in whole.splitlines() if (event := as_object(line))]


def as_object(line: bytes) -> dict | None:
    """Return the object of a line, None where it is no event."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
