"""Programs per CPU-second of `codemix verify`, beside a bare interpreter for each and, with --before, beside an earlier commit, in turns.

    python benchmarks/verify.py [--before COMMIT] [--programs 120] [--rounds 3]

Small functions with three assertions or a unittest: what starts a program costs more than the program. CPU-seconds are those of the command and of
all it started (machines are shared), the least of the rounds; without control groups of version 1 seconds by the clock stand for them. The last
line is JSON. Target with --before: at least 0.8 of its speed.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from codemix_megatron.sandbox.control_groups import hierarchy_of

REPOSITORY = Path(__file__).resolve().parents[1]
TARGET = 0.8
ASSERTIONS = "assert f{n}(2, 3) == {right}\nassert f{n}(0, 0) == 0\nassert f{n}([1][0], 1) == {one}\n"
UNITTEST = """import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(f{n}(2, 3), {right})
        self.assertEqual(f{n}(0, 0), 0)
"""


def problems(count: int) -> list[dict]:
    """Return problems whose solutions are right."""
    found = []
    for n in range(count):
        tests = (UNITTEST if n % 4 == 3 else ASSERTIONS).format(n=n, right=2 * n + 3, one=n + 1)
        found.append({"task_id": f"p{n}", "solution": f"def f{n}(a, b):\n    return a * {n} + b\n", "tests": tests})
    return found


def spent(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; return the CPU-seconds of it and all it started, and the seconds it took.

    What a sandbox's first process leaves behind is reaped by nobody of ours, so CPU time is a control group's; where none can be made, it is
    the seconds by the clock.
    """
    group, began = accounting_group(), time.perf_counter()
    enter = (lambda: (group / "cgroup.procs").write_text(str(os.getpid()))) if group else None
    done = subprocess.run(words, env=environment, capture_output=True, text=True, preexec_fn=enter)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:200]}: {done.stderr.strip()[-300:]}")
    if group is None:
        return seconds, seconds
    used = int((group / "cpuacct.usage").read_text()) / 1e9
    with contextlib.suppress(OSError):
        group.rmdir()
    return used, seconds


def accounting_group() -> Path | None:
    """Return a new control group that counts processor time, or None where this user may make none."""
    found = hierarchy_of("cpuacct", Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    try:
        folder = found.folder / f"codemix-bench-{os.getpid()}-{time.time_ns()}"
        folder.mkdir()
        return folder
    except (OSError, AttributeError):
        return None


def verified(tree: Path, folder: Path, file: Path, label: str) -> tuple[float, float]:
    """Verify the problems with the package in a tree."""
    output = folder / f"{label}-{file.stem}-{time.time_ns()}.jsonl"
    words = [sys.executable, "-m", "codemix_megatron", "verify", str(file), "--output", str(output)]
    found = spent(words, environment_of(tree))
    kept = len(output.read_text().splitlines())
    assert kept == len(file.read_text().splitlines()), f"{label}: kept {kept}"
    return found


def environment_of(tree: Path) -> dict[str, str]:
    """Return an environment in which a tree's package is imported."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/tmp",
        "PYTHONPATH": str(tree),
        "LC_ALL": "C.UTF-8",
    }


def bare(found: list[dict]) -> float:
    """Return the CPU-seconds of one plain interpreter for each program and its tests."""
    total = 0.0
    for problem in found:
        call = "\nunittest.main()" if "unittest" in problem["tests"] else ""
        words = [sys.executable, "-I", "-S", "-c", problem["solution"] + problem["tests"] + call]
        total += spent(words, environment_of(REPOSITORY))[0]
    return total


def earlier(commit: str, folder: Path) -> Path:
    """Return a folder with the package as it was at a commit."""
    tree = folder / "earlier"
    tree.mkdir()
    archive = subprocess.run(["git", "archive", commit, "codemix_megatron"], cwd=REPOSITORY, check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract", f"--directory={tree}"], input=archive, check=True)
    return tree


def main() -> int:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", metavar="COMMIT", help="a commit to compare with")
    parser.add_argument("--programs", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = problems(arguments.programs)
    with tempfile.TemporaryDirectory(prefix="codemix-bench-") as name:
        folder = Path(name)
        file = folder / "problems.jsonl"
        file.write_text("".join(json.dumps(problem) + "\n" for problem in found))
        trees = {"now": REPOSITORY} | ({"before": earlier(arguments.before, folder)} if arguments.before else {})
        nothing = folder / "one.jsonl"
        nothing.write_text(json.dumps(found[0]) + "\n")
        took: dict[str, list[float]] = {label: [] for label in trees}
        for turn in range(arguments.rounds):
            for label, tree in trees.items() if turn % 2 == 0 else reversed(trees.items()):
                alone = verified(tree, folder, nothing, label)[0]  # what the command costs without programs
                cpu, seconds = verified(tree, folder, file, label)
                took[label].append(cpu - alone)
                print(f"round {turn + 1}, {label}: {cpu:.2f} CPU-s, {seconds:.1f} s; {alone:.2f} CPU-s for one program", flush=True)
        count = len(found) - 1
        rates = {label: round(count / min(values), 2) for label, values in took.items()}
        told = {
            "programs": len(found),
            "programs_per_cpu_second": rates,
            "bare_interpreters_per_cpu_second": round(len(found) / bare(found), 2),
        }
    told |= {"target": TARGET, "ratio": round(rates["now"] / rates["before"], 3)} if arguments.before else {}
    told |= {"met": told["ratio"] >= TARGET} if arguments.before else {}
    print(json.dumps(told))
    return 0 if told.get("met", True) else 1


if __name__ == "__main__":
    sys.exit(main())
