"""Tokens per second, MFU and peak memory of one GPU, for micro batches of some sizes.

python speed.py 470m|2.8b MICRO...
"""

import gc
import sys

from child import SIMULATED, answer, prepare
from measured import Case, layers_here, measure

LARGEST_MEMORY_ERROR = 0.15  # the allocator's blocks and cuDNN's workspaces are not planned


def main() -> None:
    """Measure each micro batch; one that does not fit says so and stops nothing."""
    size, micros = sys.argv[1], [int(word) for word in sys.argv[2:]]
    layers = layers_here()
    prepare(layers)
    runs, faults = [], []
    for micro in micros:
        run = measure(Case(size, micro))
        runs.append(run)
        error = run.get("memory_over_plan")
        if error is not None and abs(error - 1) > LARGEST_MEMORY_ERROR and not SIMULATED:
            faults.append(f"micro batch {micro}: the peak is {error:.2f} times what codemix plan says")
        gc.collect()
    answer(faults, layers, size=size, runs=runs, **({"in_place_of": f"{size}: a toy; its figures mean nothing"} if SIMULATED else {}))


if __name__ == "__main__":
    main()
