"""Writes docs/journal.md from the dataclasses of events: `python docs/write_journal.py`. A test compares the page with them."""

from pathlib import Path

from codemix_megatron.launch.slurm.attempts import ATTEMPT_EVENTS
from codemix_megatron.records.event_lines import Event, meanings
from codemix_megatron.records.events import RUN_EVENTS

PAGE = Path(__file__).with_name("journal.md")
HEAD = """# The journal

<!-- Written by docs/write_journal.py from codemix_megatron/records/events.py and launch/slurm/attempts.py. -->

RUN/journal.jsonl holds what happened to a run: one JSON object per line, appended as it happens, `event` first. Every event has `step`,
the number of steps done by then. A resume cuts what came after the checkpoint that it starts from; what a `rollback` went back over stays
in the file and no longer counts. The process may have been killed while it wrote the last line, so a last line that is no JSON is left out.

Field names do not change, and new versions may add kinds of events and fields: ignore those you do not know.

    import json
    steps = [e for e in map(json.loads, open("runs/mine/journal.jsonl")) if e["event"] == "step"]

`codemix_megatron.records.journal.read_events` reads the file into the dataclasses of `codemix_megatron.records.events`.

## Events
"""
ATTEMPTS = """
## Attempts

RUN/launch/attempts.jsonl holds the attempts of a run's Slurm jobs (`codemix launch`) and what was decided after each, as in docs/slurm.md.
"""


def text() -> str:
    """Return the page."""
    parts = [HEAD, *map(section, RUN_EVENTS.values()), ATTEMPTS, *map(section, ATTEMPT_EVENTS.values())]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def section(kind: type[Event]) -> str:
    """Return a kind's table: its fields in their order."""
    rows = [f"| `{key}` | {meaning}{'; may be absent' if is_optional else ''} |" for key, meaning, is_optional in meanings(kind)]
    return "\n".join([f"### {kind.kind}", "", str(kind.__doc__), "", "| field | meaning |", "|---|---|", *rows])


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
