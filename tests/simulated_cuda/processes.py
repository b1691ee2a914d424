"""Programs of this folder as processes of their own, with the lines counted that they run where that is asked for."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["HERE", "REPOSITORY", "count_lines_in", "environment_of", "run", "stub_libraries"]

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LONGEST_SECONDS = 3600
counting: list[Path] = []  # the folder that lines are counted in


def count_lines_in(folder: Path) -> None:
    """Have every simulated process started from now on write the lines of the package that it ran into a folder.

    Each interpreter begins to count by itself (`sitecustomize`), the ranks that a program starts too.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import coverage\n\ncoverage.process_startup()\n")
    (folder / "settings").write_text(
        f"[run]\nsource = {REPOSITORY / 'codemix_megatron'}\nparallel = true\ndata_file = {folder / 'lines'}\nsigterm = true\n"
    )
    counting.append(folder)


def environment_of(named: dict[str, str], is_simulated: bool = True) -> dict[str, str]:
    """Return the variables of a process: this checkout first; lines of what stands for a CUDA machine are counted."""
    paths, counted = [str(REPOSITORY), str(HERE.parent), str(HERE)], {}
    if counting and is_simulated:
        paths.append(str(counting[0]))
        counted = {"COVERAGE_PROCESS_START": str(counting[0] / "settings")}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **counted, **named}


def run(program: str, words: list, environment: dict[str, str], is_simulated: bool = True) -> str:
    """Run a program of this folder and return its output; what it says goes wrong is shown."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / program), *map(str, words)],
        env=environment_of(environment, is_simulated),
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    if done.returncode:
        sys.exit(f"{program} {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout


def stub_libraries(folder: Path) -> Path:
    """Compile a CUDA runtime of eight devices that does nothing, and a driver that is not there."""
    for source, library in (("nocuda.c", "nocuda.so"), ("nodriver.c", "libcuda.so.1")):
        if not (folder / library).exists():
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / library, HERE / source], check=True)
    return folder
