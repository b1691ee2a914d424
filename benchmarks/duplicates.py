"""What deciding duplicates costs, and how that grows: made documents, exact and near copies among them, decided in memory, by DuckDB, by Ray.

    python benchmarks/duplicates.py [--documents 1e5 1e6 1e7] [--by memory duckdb stages ray]

Of the made signatures a tenth are copies of others with up to half of their positions changed, of the made digests three in ten repeat
another. Each decision runs in a process of its own (Ray's workers beside it); memory is what the processes hold of their own, pages of
files aside. All decide the same, or the command says so and ends with exit code 1. `stages` are what Ray's workers do, one after the other in
this process: what of them divides over workers is told apart from what does not. The last line is JSON: the growth as a power of the number of
documents, and, computed from that, hours for a billion of them: on one node where an engine has no more, for stages on clusters of several.
"""

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil

from codemix_megatron.cores import available_cores
from codemix_megatron.corpus.finishing import DECIDERS
from codemix_megatron.filters.duplicates_in_stages import (
    DOCUMENTS_AT_ONCE,
    ROWS_OF_A_PARTITION,
    find_duplicates_in_stages,
    find_near_duplicates_in_stages,
)
from codemix_megatron.filters.near_duplicates import rows_per_band
from codemix_megatron.recipe.filtering import NearDuplicates

ENGINES = {**DECIDERS, "stages": (find_duplicates_in_stages, find_near_duplicates_in_stages)}
SPEC = NearDuplicates()
AT_ONCE = 1 << 17
BILLION = 1e9
NODES, CORES_OF_A_NODE = (1, 4, 16, 64), 32
SLICE_SECONDS = 1e-3  # to open and read a small stretch of a file that other nodes wrote; see `hours_of_stages`


def main() -> None:
    """Measure all sizes and engines, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--by", nargs="+", choices=list(ENGINES), default=["memory", "duckdb"])
    parser.add_argument("--worker", nargs=2, metavar=("BY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(decide(*arguments.worker)))
        return
    rows, same = [], True
    for count in map(int, arguments.documents):
        with tempfile.TemporaryDirectory(prefix="codemix-duplicates-") as folder:
            make(Path(folder), count)
            measured = [{"documents": count, "by": by, **run(by, folder)} for by in arguments.by]
        same &= len({row["decisions"] for row in measured}) == 1
        rows += measured
        for row in measured:
            print(f"{count:12,} by {row['by']:7} {row['seconds']:8.1f} s {row['cpu_seconds']:8.1f} CPU-s, {row['peak_megabytes']:7,.0f} MB, "
                  f"{row['exact']:,} exact and {row['near']:,} near duplicates", flush=True)  # fmt: skip
    print(
        json.dumps(
            {"benchmark": "duplicates", "same_decisions": same, "met": same, "cores": available_cores(), "rows": rows, **growth(rows)}
        )
    )
    sys.exit(0 if same else 1)


def make(folder: Path, count: int) -> None:
    """Write signatures and digests of made documents."""
    draw = np.random.default_rng(count)
    with open(folder / "signatures", "wb") as signatures, open(folder / "digests", "wb") as digests:
        for begin in range(0, count, AT_ONCE):
            some = draw.integers(0, 256, (min(AT_ONCE, count - begin), SPEC.permutations), dtype=np.uint8)
            copies = np.flatnonzero(draw.random(len(some)) < 0.1)
            changed = draw.random((len(copies), SPEC.permutations)) < draw.uniform(0, 0.5, (len(copies), 1))
            some[copies] = np.where(changed, some[copies], some[draw.integers(0, len(some), len(copies))])
            signatures.write(some.tobytes())
            numbers = np.where(draw.random(len(some)) < 0.3, draw.integers(0, count, len(some)), np.arange(begin, begin + len(some)))
            for number in numbers.tolist():
                digests.write(hashlib.blake2b(number.to_bytes(8, "little"), digest_size=16).digest())


def run(by: str, folder: str) -> dict:
    """Decide in a process of its own; return what that printed, with seconds and the most memory of all its processes."""
    began, peak = time.monotonic(), 0.0
    process = subprocess.Popen([sys.executable, "-W", "ignore", __file__, "--worker", by, folder], stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        peak = max(peak, own_megabytes(process.pid))
        time.sleep(0.2)
    assert process.stdout is not None
    printed = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"deciding by {by} ended with exit code {process.returncode}: {printed[-2000:]}")
    return {"seconds": time.monotonic() - began, "peak_megabytes": peak, **json.loads(printed.splitlines()[-1])}


def own_megabytes(pid: int) -> float:
    """Return the memory of a process and all below it that is no page of a file."""
    total = 0
    try:
        for process in [root := psutil.Process(pid), *root.children(recursive=True)]:
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += int(status.partition("RssAnon:")[2].split(maxsplit=1)[0])
    except (psutil.Error, OSError, IndexError, ValueError):
        pass
    return total / 1e3


def decide(by: str, folder: str) -> dict:
    """Decide both kinds; return their numbers, a hash of all decisions, and CPU-seconds of this process and all below it."""
    scratch = Path(folder) / "scratch"
    scratch.mkdir(exist_ok=True)
    watch = CpuWatch()
    divided = 0.0

    def run_here(function: Callable, calls: Sequence[tuple]) -> list:
        """Call a function with each of the arguments, and count what could be done by as many workers."""
        nonlocal divided
        began = time.process_time()
        results = [function(*arguments) for arguments in calls]
        divided += time.process_time() - began
        return results

    more = {"run": run_here} if by == "stages" else {}
    digests = np.memmap(Path(folder) / "digests", dtype="V16", mode="r")
    exact = ENGINES[by][0]((digests[i : i + AT_ONCE] for i in range(0, len(digests), AT_ONCE)), len(digests), scratch, **more)
    near = ENGINES[by][1](np.memmap(Path(folder) / "signatures", dtype=np.uint8, mode="r"), SPEC, 0, scratch, **more)
    seconds = watch.stop()
    decisions = hashlib.sha256(exact.tobytes() + near.tobytes()).hexdigest()
    told = {"exact": int(exact.sum()), "near": int((near >= 0).sum()), "decisions": decisions[:16], "cpu_seconds": seconds}
    return {**told, "cpu_seconds_divided": divided, "cpu_seconds_undivided": seconds - divided} if more else told


class CpuWatch:
    """CPU-seconds of this process and of those below it, which may end before it does."""

    def __init__(self) -> None:
        self.own, self.stopped = time.process_time(), threading.Event()
        self.below: dict[int, float] = {}
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self) -> None:
        """Note now and then what each process has used."""
        while not self.stopped.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                try:
                    times = process.cpu_times()
                    self.below[process.pid] = times.user + times.system
                except psutil.Error:
                    continue

    def stop(self) -> float:
        """Return the sum."""
        self.stopped.set()
        self.thread.join()
        return time.process_time() - self.own + sum(self.below.values())


def growth(rows: list[dict]) -> dict:
    """Return, of each engine, the power of the number of documents with which CPU-seconds and memory grow, and hours for a billion."""
    found: dict[str, dict] = {}
    for by in dict.fromkeys(row["by"] for row in rows):
        mine = sorted((row for row in rows if row["by"] == by), key=lambda row: row["documents"])
        largest = mine[-1]
        entry: dict = {"largest": largest["documents"]}
        if len(mine) > 1:
            counts = [math.log(row["documents"]) for row in mine]
            for what in ("cpu_seconds", "peak_megabytes", "cpu_seconds_divided", "cpu_seconds_undivided"):
                if what in largest:
                    power = float(np.polyfit(counts, [math.log(max(row[what], 1e-3)) for row in mine], 1)[0])
                    entry[f"{what}_power"] = round(power, 2)
            entry["cpu_hours_for_1e9"] = round(cpu_hours_of_a_billion(largest, entry, "cpu_seconds"), 1)
            if by == "stages":
                parts = [cpu_hours_of_a_billion(largest, entry, f"cpu_seconds_{part}") for part in ("divided", "undivided")]
                entry["hours_for_1e9_by_nodes"] = {nodes: round(hours_of_stages(*parts, nodes), 2) for nodes in NODES}
        found[by] = entry
    return {"growth": found}


def cpu_hours_of_a_billion(largest: dict, entry: dict, what: str) -> float:
    """Return the CPU-hours of the largest number measured, grown to a billion documents by its power, by their number at least."""
    return largest[what] * (BILLION / largest["documents"]) ** max(1.0, entry[f"{what}_power"]) / 3600


def hours_of_stages(divided: float, undivided: float, nodes: int) -> float:
    """Return hours on so many nodes: what divides over their cores, what one process does, and slices of files, which grow with the square.

    Every partition of keys reads a slice of each file of keys; at a million documents that is nothing, at a billion it is millions of them.
    """
    bands = SPEC.permutations // rows_per_band(SPEC)
    slices = math.ceil(BILLION / DOCUMENTS_AT_ONCE) * (1 + BILLION * bands / ROWS_OF_A_PARTITION)
    return undivided + (divided + slices * SLICE_SECONDS / 3600) / (nodes * CORES_OF_A_NODE)


if __name__ == "__main__":
    main()
