"""How long the report of a study takes: 21 runs (7 shares of code, 3 seeds) x 14 tasks of 300 items; ends with one line of JSON.

    python benchmarks/study_report.py [--seeds 3]

The runs are made from a rule, with journals, plans and items as real ones have them. Counted is processor time of this process, from the
run folders to index.html with all figures: the first time, with matplotlib's import, and again.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "tests" / "unit" / "report"), str(REPOSITORY / "tests")]  # where runs are made from a rule

import numpy as np  # noqa: E402
from made_study import score_run  # noqa: E402
from seeded_study import seeded_run  # noqa: E402

from codemix_megatron.records.run_folder import RunFolder  # noqa: E402
from codemix_megatron.report.run_report import write_report  # noqa: E402

MOST_SECONDS = 10.0
SHARES = {"text-only": 0.0, "sweep-015": 0.15, "sweep-030": 0.3, "sweep-045": 0.45, "sweep-060": 0.6, "sweep-075": 0.75, "sweep-100": 1.0}
TASKS = [f"task-{i:02}" for i in range(14)]


def make_runs(folder: Path, seeds: int) -> list[RunFolder]:
    """Make the study's runs, scored on 14 tasks."""
    random, runs = np.random.default_rng(0), []
    for name, share in SHARES.items():
        for seed in range(1, seeds + 1):
            run = seeded_run(folder / f"{name}-seed-{seed}", share, seed)
            tasks = {task: float(0.5 + 0.1 * share + 0.02 * random.normal()) for task in TASKS}
            score_run(run, 1.5 + 0.4 * share + 0.005 * random.normal(), 1.9 - 0.6 * share + 0.005 * random.normal(), tasks)
            runs.append(run)
    return runs


def main() -> int:
    """Measure twice and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds, taken = parser.parse_args().seeds, []
    with tempfile.TemporaryDirectory(prefix="codemix-report-") as folder:
        runs = make_runs(Path(folder), seeds)
        for name in ("first", "again"):
            started = time.process_time()
            page = write_report(runs, Path(folder) / name)
            taken.append(round(time.process_time() - started, 2))
            print(f"{name}: {taken[-1]} CPU-seconds, {page.stat().st_size / 1e6:.1f} MB", flush=True)
    result = {"runs": len(runs), "tasks": len(TASKS), "cpu_seconds": taken[0], "cpu_seconds_again": taken[1], "most": MOST_SECONDS}
    print(json.dumps({**result, "met": taken[0] <= MOST_SECONDS}))
    return 0 if taken[0] <= MOST_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
