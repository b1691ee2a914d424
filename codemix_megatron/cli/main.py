"""The `codemix` command: picks one module of this room and runs it.

Every command module has `add_arguments(parser)` and `run(arguments) -> int | None`; it is imported only
when its command is asked for, so that `codemix --help` starts at once.
"""

import argparse
import errno
import importlib
import sys

from codemix_megatron.errors import CodemixError, machine_fault
from codemix_megatron.megatron.upstream_warnings import hide_upstream_warnings
from codemix_megatron.printable import printable_output
from codemix_megatron.redaction import redact
from codemix_megatron.version import __version__

__all__ = ["main"]

COMMANDS = {
    "init": "a first recipe and study with comments, from two folders or a public model",
    "prepare": "documents -> Megatron .bin/.idx corpora with manifests",
    "merge": "join the parts that the shards of `codemix prepare --shard` have done",
    "inspect": "what a prepared corpus holds: its manifest, and documents as text",
    "remove": "make a corpus without documents of an origin, and name the runs that read them",
    "verify-corpus": "read prepared corpora again, all of it, and name what is damaged",
    "tokenizer": "train a tokenizer on corpora, compare tokenizers on them",
    "verify": "run solutions against their tests in a sandbox, keep those that pass",
    "synthesize": "a teacher writes solutions and tests, the sandbox keeps those that agree, as a corpus",
    "plan": "show what a recipe will do: sequences, steps, epochs, parameters, memory, FLOPs",
    "study": "many runs that share parents, described once: plan, run, status, resume, report",
    "train": "train a recipe on any number of ranks; resumes a run folder that is there",
    "watch": "follow a run that trains elsewhere, through the files of its folder alone",
    "launch": "train, prepare or evaluate as Slurm jobs that are requeued after failures",
    "site": "a site file for this cluster, out of what Slurm says of it",
    "average": "the mean of a run's last checkpoints, as a run to export, score, branch off or train on from",
    "checkpoints": "list what a run has saved, why each is kept, and whether it is complete",
    "export": "checkpoint -> Hugging Face folder, logits checked",
    "import": "Hugging Face folder -> run folder to train on from",
    "evaluate": "score an export: bits per byte, multiple choice through lm-eval",
    "judge": "whose answers a judge prefers: pairwise, both orders, over any OpenAI-compatible endpoint",
    "audit": "what a run really consumed, recounted per phase, source and language",
    "swarm": "mixtures drawn, trained, fitted, and the next ones proposed, round after round",
    "law": "what mixtures do to losses, fitted over many runs, and which to try next",
    "report": "runs -> one HTML page with figures",
    "demo": "every command on the standard library's own sources, in minutes",
    "doctor": "what this machine has: devices, versions, engines, and whether they work",
}

MODULES = {"import": "import_", "verify-corpus": "verify_corpus", "study": "study.command"}  # where a command's name cannot be a module's

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


def build_parser(argv: list[str]) -> argparse.ArgumentParser:
    """Return the parser; only the module of the command in `argv` is imported."""
    parser = argparse.ArgumentParser(
        prog="codemix",
        description="Ask what code in the pre-training data does to everything else a model can do.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"codemix_megatron {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in argv if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == asked:
            module = importlib.import_module(f"codemix_megatron.cli.{MODULES.get(name, name)}")
            command.epilog = getattr(module, "EPILOG", None)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
