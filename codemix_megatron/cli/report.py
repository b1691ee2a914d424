"""codemix report: the records of one or several runs as one page."""

import sys
from pathlib import Path

from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix report runs/demo
  codemix report runs/text-only runs/balanced --output runs/comparison

One HTML file with its figures inside, and index.md with PNGs beside it. It can be written at any time,
also while a run trains."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folders", metavar="RUN", nargs="+", help="run folders; several are compared")
    parser.add_argument("--output", help="folder to write into (default: RUN/report)")


def run(arguments) -> int:
    """Write the report and print where it is."""
    from codemix_megatron.report.run import write_report

    folders = [RunFolder.existing(path) for path in arguments.run_folders]
    path = write_report(folders, Path(arguments.output) if arguments.output else None)
    sys.stdout.write(f"file://{path}\n")
    return 0
