"""Stages as processes: limits, results line by line, nothing that one stage does stops the others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from stages import Stage

__all__ = ["Runner"]

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LEAST_SECONDS = 5.0  # less is not worth a start
DYING_SECONDS = 30.0  # that what a stage left behind may take to be gone once it is killed


class Runner:
    """Runs stages one after the other as long as there is time."""

    def __init__(self, folder: Path, simulated: bool, total_seconds: float, slower: float = 1.0, programs: Path = HERE):
        """Limits of stages are multiplied by `slower`; `programs` holds their programs."""
        self.folder, self.simulated, self.slower, self.programs = folder.absolute(), simulated, slower, programs
        self.began, self.total = time.monotonic(), total_seconds
        (self.folder / "work").mkdir(parents=True, exist_ok=True)

    def seconds(self) -> float:
        """Return how long it has been."""
        return round(time.monotonic() - self.began, 1)

    def run(self, stage: Stage) -> dict:
        """Run one stage, append its result to results.jsonl, print it and return it."""
        limit, began = min(stage.limit_seconds * self.slower, self.total - self.seconds()), time.monotonic()
        found = self.outcome(stage, limit) if limit >= LEAST_SECONDS else {"state": "no time was left"}
        head = {"stage": stage.name, "claim": stage.claim, "seconds": round(time.monotonic() - began, 1), "limit_seconds": round(limit, 1)}
        result = {**head, "on": "simulated CUDA" if self.simulated else "a GPU", **found}
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as results:
            results.write(json.dumps(result) + "\n")
        print(f"{stage.name:<18} {result['state']:<12} {result['seconds']:>6.1f} s  {json.dumps(found)}", flush=True)
        return result

    def outcome(self, stage: Stage, limit: float) -> dict:
        """Return what became of a stage: its own last line of JSON, or how it ended without one."""
        log = self.folder / f"{stage.name}.log"
        words = [sys.executable, "-W", "ignore", str(self.programs / stage.program), *stage.words]
        with log.open("wb") as output:
            process = subprocess.Popen(
                words, env=self.environment(), cwd=self.folder / "work", stdout=output, stderr=output, start_new_session=True
            )
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end_group(process)
        lines = log.read_text(errors="replace").splitlines()
        if code is None:
            return {"state": "out of time", "last_line": lines[-1][-300:] if lines else ""}
        if code or not lines or not lines[-1].startswith("{"):
            return {"state": "failed", "exit_code": code, "last_line": lines[-1][-300:] if lines else "", "log": log.name}
        return json.loads(lines[-1])

    def environment(self) -> dict[str, str]:
        """Return the variables of a stage: the package and its tests first, then what the caller has, Transformer Engine's folder among it."""
        paths = [REPOSITORY, REPOSITORY / "tests", REPOSITORY / "tests" / "simulated_cuda", self.programs]
        path = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
        asked = {"GPU_CHECK_SIMULATED": str(int(self.simulated)), "GPU_CHECK_WORK": str(self.folder / "work")}
        return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "NVTE_FRAMEWORK": "pytorch", **asked}


def end_group(process: subprocess.Popen) -> None:
    """Kill a stage and all that it started, unless all of it has ended; the next one finds the device free."""
    until = time.monotonic() + DYING_SECONDS
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while time.monotonic() < until:
            os.killpg(process.pid, 0)
            time.sleep(0.02)
    except ProcessLookupError:
        process.wait()
