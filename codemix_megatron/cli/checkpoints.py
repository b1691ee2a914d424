"""codemix checkpoints: what a run has saved, why each is kept, and whether it is complete."""

import sys
from datetime import UTC, datetime

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.errors import CodemixError
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix checkpoints runs/mine
  codemix checkpoints runs/mine --verify      reads every file again and compares checksums
  codemix checkpoints runs/mine --json

Exit code 1 when a checkpoint is torn, 0 when all are complete. Without --verify only names and sizes are compared."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="run folder, in training or not")
    parser.add_argument("--verify", action="store_true", help="compare every file with its checksum")
    add_json_option(parser, "the checkpoints")


def run(arguments) -> int:
    """List, and say by the exit code whether all are complete."""
    from codemix_megatron.checkpoint.listing import list_run
    from codemix_megatron.cli.progress import progress_bar

    folder = RunFolder(arguments.run_folder)
    if not folder.checkpoints.is_dir():
        raise CodemixError(f"{folder}: holds no checkpoints; give the folder `codemix train` or `codemix import` made")
    with progress_bar("checkpoints") as bar:
        task = bar.add_task("reading")
        entries = list_run(folder, arguments.verify, lambda done, total: bar.update(task, completed=done, total=total))
    if arguments.json:
        print_json(entries)
    else:
        print_table(entries)
    torn = [entry for entry in entries if entry.is_checkpoint and entry.fault]
    if not arguments.json:
        checked = "every checksum compared" if arguments.verify else "names and sizes compared; --verify reads the files"
        complete = sum(entry.is_checkpoint for entry in entries) - len(torn)
        sys.stdout.write(f"{complete} complete, {len(torn)} torn ({checked})\n")
    return 1 if torn else 0


def print_table(entries) -> None:
    """Print one row for each checkpoint; below them what is wrong, and what is no checkpoint."""
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.recipe.quantity import format_tokens

    table = Table("step", "tokens", "phase", "MiB", "age", "layout", "kept as", "state")
    for number in (0, 1, 3, 4):
        table.columns[number].justify = "right"
    for entry in (entry for entry in entries if entry.is_checkpoint):
        tokens = "" if entry.tokens is None else format_tokens(entry.tokens)
        state = "TORN" if entry.fault else "complete"
        size = f"{entry.bytes / 2**20:.1f}"
        table.add_row(str(entry.step), tokens, entry.phase or "", size, age(entry.at), layout(entry.layout), entry.kept or "", state)
    Console().print(table)
    for entry in entries:
        if entry.fault:
            sys.stdout.write(f"{entry.name}: {entry.fault}\n")


def age(at: str | None) -> str:
    """Return how long ago a moment was, in its largest unit."""
    if at is None:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def layout(parts: dict | None) -> str:
    """Return a layout in short: what is more than 1."""
    names = {"tensor": "TP", "pipeline": "PP", "virtual_pipeline": "VPP", "context": "CP", "data": "DP"}
    if parts is None:
        return ""
    known = [f"{short}{parts[name]}" for name, short in names.items() if parts.get(name, 1) > 1]
    return " x ".join(known) or "1 rank"
