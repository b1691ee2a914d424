"""journal.jsonl: one JSON object per event of a run, appended, never rewritten but to cut a lost tail.

What the events are, and their fields: records/events.py, and docs/journal.md, which is made from it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.appended_lines import end_last_line
from codemix_megatron.records.atomic import UNENCODABLE, replace_text
from codemix_megatron.records.event_lines import Event
from codemix_megatron.records.events import RunEvent, StartEvent, event_of
from codemix_megatron.redaction import redact

__all__ = ["Journal", "cut_after", "read_events", "read_lines", "surviving"]

Kind = TypeVar("Kind", bound=RunEvent)


class Journal:
    """Appends events to a file."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        end_last_line(self.path)
        self.handle = open(self.path, "a", encoding="utf-8", errors=UNENCODABLE)  # noqa: SIM115 - open as long as the run

    def append(self, event: Event) -> None:
        """Write one event as one line; it survives the process once this returns."""
        self.append_line(event.as_json())

    def append_line(self, line: Mapping[str, Any]) -> None:
        """Write an event that was read with `read_lines`, with what other versions put into it."""
        self.handle.write(redact(json.dumps(line)) + "\n")
        self.handle.flush()

    def close(self) -> None:
        """Flush to disk and close."""
        self.handle.flush()
        os.fsync(self.handle.fileno())
        self.handle.close()


def read_events(path) -> list[RunEvent]:
    """Return all events of a run's journal that still count: see `read_lines`."""
    return [event_of(line) for line in read_lines(path)]


def surviving(events: list[RunEvent], kind: type[Kind]) -> list[Kind]:
    """Return the events of one kind without those that a resume from an earlier step made void."""
    kept: dict[int, Kind] = {}
    for event in events:
        if isinstance(event, StartEvent):
            kept = {step: old for step, old in kept.items() if step <= event.step}
        elif isinstance(event, kind):
            kept[event.step] = event
    return [kept[step] for step in sorted(kept)]


def read_lines(path) -> list[dict[str, Any]]:
    """Return the objects of all lines that still count, as they are; a torn last line (the process was killed in it) is left out.

    What came after the step that a `rollback` event goes back to was undone; it stays in the file only.
    """
    path = Path(path)
    if not path.exists():
        return []
    texts = path.read_text(encoding="utf-8").split("\n")
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            if number < len(texts):
                raise CodemixError(f"{path}: line {number} is not JSON: {text[:80]!r}; fix or remove the line") from None
            continue
        if not isinstance(line, dict) or not isinstance(line.get("event"), str):
            raise CodemixError(f"{path}: line {number} is not an event (an object with `event`): {text[:80]!r}; fix or remove the line")
        if line["event"] == "rollback":
            lines = [before for before in lines if before.get("step", 0) <= line["step"]]
        lines.append(line)
    return lines


def cut_after(path, step: int) -> int:
    """Keep only events up to `step`, atomically; return how many were dropped."""
    lines = read_lines(path)
    kept = [line for line in lines if line.get("step", 0) <= step]
    if Path(path).exists():
        replace_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return len(lines) - len(kept)
