"""Lines that nothing crosses unless its user says so, each by its name: `--trust NAME`. What was trusted stands in the record.

There is no name for what nobody has to trust: see "Lines that can be crossed" in SECURITY.md.
"""

from typing import Any

__all__ = ["MEANINGS", "PROGRAMS", "TASK_CODE", "add_trust_option"]

PROGRAMS, TASK_CODE = "programs", "task-code"
MEANINGS = {
    PROGRAMS: "run solutions with your rights, files and network, in no sandbox",
    TASK_CODE: "run the Python that lm-eval task files name (!function), and metrics that are scripts",
}


def add_trust_option(parser: Any, *names: str) -> None:
    """Declare `--trust` for the lines that a command could cross."""
    meanings = "; ".join(f"{name}: {MEANINGS[name]}" for name in names)
    parser.add_argument("--trust", action="append", choices=names, default=[], help=f"{meanings}. Repeatable, and recorded")
