"""Every attack, the slow ones too; ends with one line of JSON. Exit code 1 when one got through."""

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent


class Summary:
    """Counts what became of the attacks."""

    def __init__(self):
        self.ends: Counter[str] = Counter()
        self.through: list[str] = []
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report) -> None:
        """Count one test; its setup counts where it failed or skipped."""
        if report.when == "call" or report.outcome != "passed":
            self.ends[report.outcome] += 1
        if report.failed:
            self.through.append(report.nodeid)
        if report.skipped:
            self.skipped.append(report.nodeid)


def main() -> int:
    """Run the attacks on this machine's sandboxes, as this user and, where that is root, as an ordinary one."""
    sys.path.insert(0, str(FOLDER.parents[1]))
    from codemix_megatron.sandbox.isolation import isolations

    summary = Summary()
    code = pytest.main(["-q", "-p", "no:cacheprovider", str(FOLDER), *sys.argv[1:]], plugins=[summary])
    users = ["root", "an ordinary user"] if os.geteuid() == 0 and shutil.which("setpriv") else ["this user"]
    told = {
        "attacks": sum(summary.ends.values()),
        "stopped": summary.ends["passed"],
        "got_through": summary.through,
        "not_run": summary.skipped,
        "sandboxes": [isolation.name for isolation in isolations()],
        "users": users,
    }
    print(json.dumps(told))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
