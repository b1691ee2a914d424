"""What `make swarm-demo` has to show, read from the swarm's folder; ends with one line of JSON.

The mean over seeds of each objective at the best mixture lies in the interval that was written down before it was trained, and on the
mixtures of the later rounds a law over phases is nearer than one over whole runs, as it is on runs held out.
"""

import json
import sys

import numpy as np

from codemix_megatron.study.swarm.folder import SwarmFolder, runs_of

LEAST_RUNS = 24


def main(path: str) -> None:
    """Read, print, judge."""
    state = SwarmFolder.existing(path).read()
    last = state["rounds"][-1]
    best = [row for row in last["compared"] if row["purpose"] == "best"]
    within = {}
    for metric in dict.fromkeys(row["objective"] for row in best):
        rows = [row for row in best if row["objective"] == metric]
        mean = float(np.mean([row["measured"] for row in rows]))
        within[metric] = rows[0]["low"] <= mean <= rows[0]["high"]
        runs = ", ".join(f"{row['measured']:.4f}" for row in rows)
        print(
            f"{metric} at the best: predicted {rows[0]['predicted']:.4f} ({rows[0]['low']:.4f} to {rows[0]['high']:.4f}), measured {runs}; mean {mean:.4f}"
        )
    errors = {"out_of_sample": last["out_of_sample"], "held_out": {m: law["held_out_error"] for m, law in last["learned"]["laws"].items()}}
    for kind, found in errors.items():
        for metric, by_view in found.items():
            print(f"{metric}, {kind.replace('_', ' ')}: " + ", ".join(f"over {view} {error:.4f}" for view, error in by_view.items()))
    beaten = {f"{kind} {metric}": e["phases"] < e["totals"] for kind, found in errors.items() for metric, e in found.items()}
    print(
        json.dumps(
            {
                "bench": "swarm",
                "runs": len(runs_of(state)),
                "within_interval": within,
                "phases_beat_totals": beaten,
                "met": len(runs_of(state)) >= LEAST_RUNS and bool(within) and all(within.values()) and all(beaten.values()),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
