"""The share of lines that the tests run, by subpackage, from the data `make coverage` has written; ends with one line of JSON.

Floors are what was there when they were set: a room may not fall below its own. The aim is 90 % everywhere.
"""

import json
import sys
import tempfile
from pathlib import Path

from coverage import Coverage

FLOORS: dict[str, float] = {}
AIM = 0.9


def main() -> None:
    """Count, print; exit code 1 where a room has fallen below its floor."""
    coverage = Coverage()
    coverage.load()  # pytest-cov has joined those of all processes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(path))
        files = json.loads(path.read_text())["files"]
    rooms: dict[str, list[int]] = {}
    for name, found in files.items():
        parts = Path(name).parts
        room = parts[1] if len(parts) > 2 else "(top)"
        run, all_lines = found["summary"]["covered_lines"], found["summary"]["num_statements"]
        rooms.setdefault(room, [0, 0])
        rooms[room][0] += run
        rooms[room][1] += all_lines
    shares = {room: round(run / total, 3) for room, (run, total) in sorted(rooms.items()) if total}
    for room, share in shares.items():
        print(f"{room:12} {100 * share:5.1f} %  of {rooms[room][1]} lines{'' if share >= AIM else '  below the aim'}")
    fallen = {room: share for room, share in shares.items() if share < FLOORS.get(room, 0)}
    whole = sum(run for run, _ in rooms.values()) / max(1, sum(total for _, total in rooms.values()))
    print(json.dumps({"check": "coverage", "whole": round(whole, 3), "rooms": shares, "fallen": fallen, "met": not fallen}))
    sys.exit(1 if fallen else 0)


if __name__ == "__main__":
    main()
