"""Do the tests notice when the code is changed? Small changes to the pure rooms, each run against its room's unit tests, by mutmut.

Of the thousands of mutants every tenth is taken (those whose number ends in 7; `--all` takes all of them). A mutant counts as noticed when
a test fails or hangs. Survivors are listed by name: some are equivalent to the code, which no test can see (`mutmut show NAME` in the scratch
folder prints one). Works in a scratch copy of the tracked files; ends with one line of JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FLOOR = 0.85
ROOMS = {  # what is changed, and the tests that should notice
    "mixture": (["mixture/*"], ["tests/unit/mixture"]),
    "recipe": (["recipe/checks.py", "recipe/reading.py", "recipe/schedule.py", "recipe/quantity.py"], ["tests/unit/recipe"]),
    "plan": (["plan/plan.py", "plan/branch.py", "plan/cost.py", "plan/difference.py"], ["tests/unit/plan", "tests/unit/plan_extras"]),
    "analysis": (["analysis/estimates.py", "analysis/comparing.py", "analysis/aggregates.py"], ["tests/unit/analysis"]),
    "study": (["study/segments.py", "study/combining.py", "study/lanes.py", "study/planning.py"], ["tests/unit/study"]),
    "launch": (
        ["launch/slurm/restart_policy.py", "launch/slurm/bad_nodes.py", "launch/slurm/failed_rank.py", "launch/slurm/attempts.py"],
        ["tests/unit/launch", "tests/unit/watch"],
    ),
}
SAMPLE = "7"
SURVIVED, UNSEEN = 0, (33, 34)  # exit codes of mutmut's records: a pass; no test reaches it, or it was skipped


def main() -> None:
    """Mutate the rooms asked for and print how many mutants were noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", default=[], help=f"of {', '.join(ROOMS)} (default: all)")
    parser.add_argument("--all", action="store_true", help="every mutant, not every tenth: hours")
    arguments = parser.parse_args()
    if unknown := [room for room in arguments.rooms if room not in ROOMS]:
        parser.error(f"no room {unknown[0]}; there are {', '.join(ROOMS)}")
    shares = {}
    for room in arguments.rooms or ROOMS:
        noticed, survivors = mutate(room, "*" if arguments.all else f"*mutmut_*{SAMPLE}")
        total = noticed + len(survivors)
        shares[room] = round(noticed / total, 3) if total else None
        print(f"{room}: {noticed} of {total} mutants noticed" + "".join(f"\n  survived: {name}" for name in survivors), flush=True)
    met = all(share is not None and share >= FLOOR for share in shares.values())
    print(json.dumps({"check": "mutation", "noticed": shares, "targets": {"noticed": f">= {FLOOR}"}, "met": met}))


def mutate(room: str, pattern: str) -> tuple[int, list[str]]:
    """Return how many mutants of a room were noticed, and the names of those that were not."""
    files, tests = ROOMS[room]
    with tempfile.TemporaryDirectory(prefix="codemix-mutation-") as scratch:
        folder = Path(scratch) / "codemix"
        copy_tracked(folder)
        if (REPOSITORY.parent / "shared").exists():
            (Path(scratch) / "shared").symlink_to(REPOSITORY.parent / "shared")
        chosen = "".join(f"\n    codemix_megatron/{name}" for name in files)
        copied = "".join(f"\n    {name}" for name in ("tests", "examples", "tools", "pyproject.toml"))
        settings = f"[mutmut]\nsource_paths=codemix_megatron\nonly_mutate={chosen}\nalso_copy={copied}\n"
        (folder / "setup.cfg").write_text(
            settings + "pytest_add_cli_args_test_selection=" + "".join(f"\n    {path}" for path in tests) + "\n"
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        words = [sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count() or 1), pattern]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        codes = recorded(folder / "mutants")
        if not codes:
            sys.exit(f"{room}: mutmut checked nothing\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    survivors = sorted(name for name, code in codes.items() if code == SURVIVED or code in UNSEEN)
    return len(codes) - len(survivors), survivors


def copy_tracked(folder: Path) -> None:
    """Copy the tracked files of the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)


def recorded(folder: Path) -> dict[str, int]:
    """Return mutant -> exit code of its tests, of those that were run."""
    found: dict[str, int] = {}
    for path in folder.rglob("*.meta"):
        entries = json.loads(path.read_text())["exit_code_by_key"]
        found |= {name: code for name, code in entries.items() if code is not None}
    return found


if __name__ == "__main__":
    main()
