"""The first fifteen minutes on a GPU: every claim that only a device can settle, in order, within ten minutes.

    python benchmarks/gpu_check                       on a machine with a GPU; downloads nothing
    python benchmarks/gpu_check --simulated           without one: what needs CUDA is replaced by tests/simulated_cuda, and each result says so
    python benchmarks/gpu_check --only speed-470m     one stage, or some

Each stage is a process of its own with a limit of its own; its result is a line of FOLDER/results.jsonl as soon as it ends, and what it
printed is FOLDER/STAGE.log. A stage that fails, hangs or is not possible keeps no other from running. Ends with one line of JSON and exit
code 1 where a stage failed.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from running import Runner
from stages import STAGES

SLOWER_WITHOUT_GPU = 8  # times the limits, on few CPUs that do other work too


def main() -> int:
    """Run the stages that are asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--simulated", action="store_true", help="on CPU, over tests/simulated_cuda; TE_SOURCE is the unpacked wheel of Transformer Engine"
    )
    parser.add_argument("--only", nargs="+", choices=[stage.name for stage in STAGES], help="these stages alone")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), metavar="FOLDER", help="where results go (default: gpu-check)")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="for all of it; stages that no time is left for are not begun (default: 10)"
    )
    parser.add_argument(
        "--patience", type=float, metavar="FACTOR", help=f"times all limits (default: 1; {SLOWER_WITHOUT_GPU} with --simulated)"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stage under way is ended too
    slower = arguments.patience or (SLOWER_WITHOUT_GPU if arguments.simulated else 1)
    runner = Runner(arguments.out, arguments.simulated, 60 * arguments.minutes * slower, slower)
    results = [runner.run(stage) for stage in STAGES if not arguments.only or stage.name in arguments.only]
    ended = {state: [r["stage"] for r in results if r["state"] == state] for state in dict.fromkeys(r["state"] for r in results)}
    print(json.dumps({"check": "gpu", "simulated": arguments.simulated, "seconds": runner.seconds(), "stages": ended}))
    return 0 if set(ended) <= {"ok", "impossible"} else 1


if __name__ == "__main__":
    sys.exit(main())
