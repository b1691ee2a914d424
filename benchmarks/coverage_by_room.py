"""The share of lines that the tests run, by subpackage, from the data `make coverage` has written; ends with one line of JSON.

Floors are in coverage_floors.json: what was there when they were written (`--write-floors`), rounded down to a percent. Below its floor a
subpackage makes `met` false and the exit code 1; one without a floor, as a new one, has to reach the aim of 90 %.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

FLOORS = Path(__file__).with_name("coverage_floors.json")
AIM = 0.9


def main() -> None:
    """Count, print, compare with the floors, or write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write-floors", action="store_true", help=f"write what is there into {FLOORS.name}")
    arguments = parser.parse_args()
    counts = lines_by_room(measured_files())
    shares = {room: run / total for room, (run, total) in counts.items() if total}
    floors = json.loads(FLOORS.read_text()) if FLOORS.is_file() else {}
    for room, share in shares.items():
        floor = f"floor {100 * floors[room]:3.0f} %" if room in floors else f"no floor: {100 * AIM:.0f} %"
        print(f"{room:12} {100 * share:5.1f} %  of {counts[room][1]:5} lines  {floor}{'' if share >= AIM else '  below the aim'}")
    if arguments.write_floors:
        floors = {room: rounded_down(share) for room, share in shares.items()}
        FLOORS.write_text(json.dumps(floors, indent=2) + "\n")
        print(f"{FLOORS.name} written")
    found = verdict(shares, floors)
    whole = sum(run for run, _ in counts.values()) / max(1, sum(total for _, total in counts.values()))
    print(json.dumps({"check": "coverage", "all": round(whole, 3), **found}))
    sys.exit(0 if found["met"] else 1)


def measured_files() -> dict[str, dict]:
    """Return file -> its report, of the data that pytest-cov has joined from all processes."""
    from coverage import Coverage

    coverage = Coverage()
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(path))
        return json.loads(path.read_text())["files"]


def lines_by_room(files: dict[str, dict]) -> dict[str, tuple[int, int]]:
    """Return subpackage -> (lines run, lines there); modules at the top of the package are one of their own."""
    counts: dict[str, tuple[int, int]] = {}
    for name, found in sorted(files.items()):
        parts = Path(name).parts
        room = parts[1] if len(parts) > 2 else "(top)"
        run, total = counts.get(room, (0, 0))
        counts[room] = run + found["summary"]["covered_lines"], total + found["summary"]["num_statements"]
    return dict(sorted(counts.items()))


def rounded_down(share: float) -> float:
    """Return a share in whole percent, not above it: rounding must not set a floor that is not there."""
    return math.floor(100 * share + 1e-9) / 100


def verdict(shares: dict[str, float], floors: dict[str, float]) -> dict:
    """Return shares, those below their floor (the aim where there is none), floors of what is gone, and whether all is well."""
    fallen = {room: round(share, 3) for room, share in shares.items() if share < floors.get(room, AIM)}
    gone = sorted(set(floors) - set(shares))
    rooms = {room: round(share, 3) for room, share in shares.items()}
    return {"rooms": rooms, "fallen": fallen, "gone": gone, "met": bool(shares) and not fallen and not gone}


if __name__ == "__main__":
    main()
