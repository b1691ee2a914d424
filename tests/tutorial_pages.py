"""The tutorials of docs/tutorials: their commands as one shell script, and what they say is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tiny_run import REPOSITORY, clean_environment

__all__ = ["blocks_of", "commands_of", "follow", "lines_not_printed"]

TUTORIALS = REPOSITORY / "docs" / "tutorials"


def blocks_of(page: str, language: str) -> list[str]:
    """Return the blocks of code of a tutorial in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (TUTORIALS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands_of(page: str, *, skipped: int = 0, before: str = "", change=lambda commands: commands) -> str:
    """Return all commands of a tutorial as they stand there, without the first blocks where they are `skipped`."""
    commands = change("\n".join(blocks_of(page, "sh")[skipped:]))
    return f'set -e\ncodemix() {{ "{sys.executable}" -m codemix_megatron "$@"; }}\n{before}\n{commands}'


def follow(page: str, folder: Path, timeout: int = 1200, **how) -> str:
    """Run all commands of a tutorial; return what they printed, with the reader's home in the place of the folder."""
    environment = {**clean_environment(), "COLUMNS": "200", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-c", commands_of(page, **how)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return f"{done.stdout}\n{done.stderr}".replace(str(folder), "/home/ada")


def lines_not_printed(page: str, printed: str) -> list[str]:
    """Return the lines of output that a tutorial shows and its commands did not print, white space aside."""
    joined = " ".join(printed.split())
    return [line for block in blocks_of(page, "text") for line in block.splitlines() if " ".join(line.split()) not in joined]
