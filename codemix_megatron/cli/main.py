"""The `codemix` command: picks one module of this room and runs it.

Every command module has `add_arguments(parser)` and `run(arguments) -> int | None`; it is imported only
when its command is asked for, so that `codemix --help` starts at once.
"""

import argparse
import errno
import sys

from codemix_megatron.cli.commands import COMMANDS, command_list, declare
from codemix_megatron.errors import CodemixError, machine_fault
from codemix_megatron.extras import missing_extra
from codemix_megatron.megatron.upstream_warnings import hide_upstream_warnings
from codemix_megatron.printable import printable_output
from codemix_megatron.redaction import redact
from codemix_megatron.version import __version__

__all__ = ["main"]

# What the machine refuses; any other OSError is a fault of ours and keeps its traceback.
MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE)

EPILOG = """examples:
  codemix demo
  codemix plan examples/demo/recipe.yaml
  codemix prepare recipe.yaml && codemix train recipe.yaml --nproc 4
  codemix export runs/demo && codemix evaluate runs/demo && codemix report runs/demo

Exit codes: 0 done, 2 something to fix in what was asked, 1 the machine failed, 75 stopped early and saved."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; print errors of this package as one message, without a traceback."""
    argv = sys.argv[1:] if argv is None else argv
    with printable_output():
        return run_command(argv)


def run_command(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    command = next((word for word in argv if word in COMMANDS), "")
    try:
        return dispatch(argv)
    except CodemixError as error:
        return complain(command, error)
    except ModuleNotFoundError as fault:
        if (line := missing_extra(fault)) is None:
            raise
        return complain(command, CodemixError(line))
    except KeyboardInterrupt:
        sys.stderr.write(f"codemix {command}: interrupted\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left, as `| head` does
        return 1
    except OSError as fault:
        if fault.errno not in MACHINE_FAULTS:
            raise
        return complain(command, machine_fault(fault))


def complain(command: str, error: CodemixError) -> int:
    """Print an error as one message and return its exit code."""
    sys.stdout.flush()
    sys.stderr.write(redact(f"codemix {command}: error: {error}\n"))
    return error.exit_code


def dispatch(argv: list[str]) -> int:
    """Parse and run one command; errors are raised."""
    parser = build_parser(argv)
    arguments = parse(parser, argv)
    hide_upstream_warnings()
    return arguments.run(arguments) or 0


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse, taking `a.b=c` overrides before and after options alike (argparse alone wants them in one place)."""
    arguments, rest = parser.parse_known_args(argv)
    overrides = [word for word in rest if "=" in word and not word.startswith("-")]
    unknown = [word for word in rest if word not in overrides]
    if unknown or (rest and not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}; see codemix {arguments.command} --help")
    if overrides:
        arguments.overrides = [*arguments.overrides, *overrides]
    return arguments


class WithoutCommands(argparse.RawDescriptionHelpFormatter):
    """Leaves the commands out of the list of arguments: the description has them by groups."""

    def add_argument(self, action: argparse.Action) -> None:
        """Take an argument into the list, unless it is the command."""
        if action.dest != "command":
            super().add_argument(action)


def build_parser(argv: list[str]) -> argparse.ArgumentParser:
    """Return the parser; only the modules of commands named in `argv` are imported."""
    parser = argparse.ArgumentParser(
        prog="codemix",
        description=f"Ask what code in the pre-training data does to everything else a model can do.\n\n{command_list()}",
        epilog=EPILOG,
        formatter_class=WithoutCommands,
    )
    parser.add_argument("--version", action="version", version=f"codemix_megatron {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in argv:
            declare(name, command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
