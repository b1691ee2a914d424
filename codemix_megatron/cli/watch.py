"""codemix watch: follow a run that trains elsewhere, through the files of its folder alone."""

import json
import sys
import time

from codemix_megatron.errors import CodemixError
from codemix_megatron.printable import printable
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import CheckpointEvent, EndEvent, ReopenedEvent, RunEvent, StartEvent, StepEvent, StopEvent, event_of
from codemix_megatron.records.journal_tail import JournalTail
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.console import ConsoleLines
from codemix_megatron.watch.heartbeat import read_heartbeats

__all__ = ["add_arguments", "run"]

STANDINGS = (EndEvent, StopEvent, StartEvent, ReopenedEvent, StepEvent)  # what says how a run stands
ENDINGS = (EndEvent, StopEvent)

EPILOG = """examples:
  codemix watch runs/mine                 the last step, what its ranks do, then every line as it comes
  codemix watch runs/mine --once          how it stands, and no more
  codemix watch runs/mine --json          the events themselves, one JSON object a line, from the first on

Nothing is written, and no rank is asked: any machine that sees the folder can watch. It ends with the run (exit code 0 after its end, 75 after a
stop), or with exit code 1 when the journal has not grown for --quiet-seconds."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="run folder, begun or finished")
    parser.add_argument("--once", action="store_true", help="say how the run stands and leave")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines instead of words")
    parser.add_argument("--every-seconds", type=float, default=2.0, help="look this often (default: 2)")
    parser.add_argument("--quiet-seconds", type=float, default=3600.0, help="leave when nothing was recorded for so long (default: 3600)")
    parser.add_argument("--console-every-steps", type=int, default=10, metavar="N", help="a line for every N-th step (default: 10)")


def run(arguments) -> int:
    """Follow the journal until the run ends, stops or is silent for too long."""
    for name, least in (("every_seconds", 0.05), ("quiet_seconds", 0.0), ("console_every_steps", 1)):
        if not getattr(arguments, name) >= least:
            raise CodemixError(f"--{name.replace('_', '-')}: found {getattr(arguments, name)}, must be at least {least:g}")
    folder = RunFolder.existing(arguments.run_folder)
    tail, show = JournalTail(folder.journal), shower(arguments, planned_steps(folder))
    lines = tail.new_lines()
    if not arguments.json:
        say_standing(folder, lines)
    last = follow(lines, show if arguments.json else lambda line: None)
    if arguments.once:
        return 0
    heard = time.monotonic()
    while not isinstance(last, ENDINGS):
        time.sleep(min(arguments.every_seconds, max(0.0, heard + arguments.quiet_seconds - time.monotonic())))
        if lines := tail.new_lines():
            last, heard = follow(lines, show) or last, time.monotonic()
        elif time.monotonic() - heard >= arguments.quiet_seconds:
            raise CodemixError(f"{folder.journal}: nothing recorded for {arguments.quiet_seconds:g} seconds; {doing(folder)}", exit_code=1)
    return 0 if isinstance(last, EndEvent) else 75


def planned_steps(folder: RunFolder) -> int:
    """Return the steps of the run's plan; 0 where there is none to read yet."""
    try:
        return int(read_json(folder.plan)["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def shower(arguments, steps: int):
    """Return what prints one event: as JSON, or as the line that training prints."""
    lines = ConsoleLines(arguments.console_every_steps, steps)

    def show(line: dict) -> None:
        text = json.dumps(line) if arguments.json else lines.line(event_of(line))
        if text:
            sys.stdout.write((text if arguments.json else printable(text)) + "\n")
            sys.stdout.flush()

    return show


def follow(lines: list[dict], show) -> RunEvent | None:
    """Show events; return the last that says how the run stands."""
    for line in lines:
        show(line)
    return next((event for line in reversed(lines) if isinstance(event := event_of(line), STANDINGS)), None)


def say_standing(folder: RunFolder, lines: list[dict]) -> None:
    """Print the last step, the last checkpoint and what the ranks do."""
    events = [event_of(line) for line in lines]
    steps, saved = list(of_kind(events, StepEvent)), list(of_kind(events, CheckpointEvent))
    sys.stdout.write(f"{folder}: {len(events)} events\n")
    if steps:
        step = steps[-1]
        sys.stdout.write(printable(f"step {step.step}  {step.phase}  loss {step.loss:.4f}  {step.tokens:,} tokens seen") + "\n")
    if saved:
        sys.stdout.write(f"last checkpoint: step {saved[-1].step}\n")
    sys.stdout.write(printable(doing(folder)) + "\n")
    sys.stdout.flush()


def doing(folder: RunFolder) -> str:
    """Say what each group of ranks does, by the heartbeats in the folder; those of `codemix train`'s own ranks are on its machine."""
    heartbeats = [heartbeat for heartbeat in read_heartbeats(folder.logs / "heartbeats") if not heartbeat.is_done]
    if not heartbeats:
        return "no heartbeats in this folder: ranks that codemix train started itself keep them on their machine"
    ranks_at: dict[str, list[int]] = {}
    for heartbeat in heartbeats:
        ranks_at.setdefault(heartbeat.where, []).append(heartbeat.rank)
    told = "; ".join(f"{len(ranks)} at {where} (rank {ranks[0]} first)" for where, ranks in ranks_at.items())
    return f"{len(heartbeats)} ranks: {told}"
