"""`codemix completion SHELL`: print a script that completes the commands in a shell."""

import argparse
import sys

import shtab

from codemix_megatron.cli.commands import COMMANDS

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix completion bash > ~/.local/share/bash-completion/completions/codemix
  codemix completion zsh > ~/.zfunc/_codemix      with fpath+=~/.zfunc before compinit in ~/.zshrc

Open a new shell afterwards. The script holds the options of this version: print it again after an upgrade."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell to print the script for")


def run(arguments) -> int:
    """Print the script."""
    from codemix_megatron.cli.main import build_parser  # not above: it imports this module when the command is asked for

    parser = build_parser(list(COMMANDS))
    complete_files(parser)
    sys.stdout.write(shtab.complete(parser, arguments.shell))
    return 0


def complete_files(parser: argparse.ArgumentParser) -> None:
    """Let every argument whose values are not listed complete to files: nearly all are recipes, folders or files."""
    for action in parser._actions:  # argparse has no other list of them
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                complete_files(command)
        elif action.choices is None and action.nargs != 0:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads this attribute
