"""Which lines of CUDA branches all parts of the check have run, and the tests of refusals beside them."""

import subprocess
import sys
from pathlib import Path

from cuda_lines import cuda_lines
from processes import REPOSITORY, counting, environment_of

__all__ = ["check_lines"]

LEAST_SHARE = 0.95
# Tests without a GPU of what is refused, and of what half installed engines do: no simulation comes to these lines.
TESTS = (
    "tests/unit/parallel",
    "tests/unit/model/test_document_attention.py",
    "tests/unit/checkpoint/test_extra_state.py",
    "tests/unit/train/test_step_end.py",
)


def check_lines(folder: Path) -> dict:
    """Print the lines of CUDA branches that nothing has run, and their share."""
    import coverage

    simulated = lines_run(coverage, counting[0])
    run_tests()
    everything = lines_run(coverage, counting[0])
    total, missing = 0, []
    for path, lines in cuda_lines(REPOSITORY / "codemix_megatron").items():
        of_file, text = everything.analysis2(str(path)), path.read_text(encoding="utf-8").splitlines()
        statements, unrun = set(of_file[1]), set(of_file[3])
        whole, arms = lines.whole & statements, (lines.arms - lines.whole) & statements
        unrun = (whole & unrun) | (arms & set(simulated.analysis2(str(path))[3]))  # of an arm only the simulation says that it was taken
        total += len(whole) + len(arms)
        missing += [f"{path.relative_to(REPOSITORY)}:{number} {text[number - 1].strip()}" for number in sorted(unrun)]
    for line in missing:
        print(f"not run: {line}", flush=True)
    share = 1 - len(missing) / total
    faults = (
        []
        if share >= LEAST_SHARE
        else [f"{len(missing)} of {total} lines of CUDA branches were not run, at least {LEAST_SHARE:.0%} are to be"]
    )
    return {"lines": total, "run": total - len(missing), "share": round(share, 4), "faults": faults}


def lines_run(coverage, folder: Path):
    """Return what all processes up to now have run."""
    found = coverage.Coverage(data_file=str(folder / "all"), config_file=str(folder / "settings"))
    found.combine(sorted(map(str, folder.glob("lines.*"))), keep=True)
    return found


def run_tests() -> None:
    """Run the tests, whose lines count too."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(words, cwd=REPOSITORY, env=environment_of({}), capture_output=True, text=True, timeout=900)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout[-4000:]}")
