"""Train small models on one rank.

python trained.py LAYERS JOBS.json OUT.json       jobs and results as of tests/many_layouts.py
"""

import json
import sys
from pathlib import Path

from child import prepare


def main() -> None:
    """Train all jobs."""
    layers, jobs, out = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), sys.argv[3]
    prepare(layers)
    import many_layouts

    for job in jobs.values():
        job["parallel"] = {**job.get("parallel", {}), "device": "cpu" if layers == "cpu" else "cuda", "timeout_seconds": 60}
    many_layouts.run_rank(0, 1, jobs, many_layouts.held_ports(len(jobs)), out)


if __name__ == "__main__":
    main()
