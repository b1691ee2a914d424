"""Every codemix command that a page or an example shows is one that the program takes."""

import contextlib
import io
import re
import shlex

import pytest
from tiny_run import REPOSITORY

from codemix_megatron.cli.commands import COMMANDS
from codemix_megatron.cli.main import build_parser, parse

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")), *sorted((REPOSITORY / "examples").rglob("*.yaml"))]


def shown_commands(text: str) -> list[str]:
    """Return the command lines of code blocks and comments; what is optional or left out is no command to try."""
    found = []
    for line in re.findall(r"^(?:#?\s+|\$ )?(codemix [a-z].*)$", text, re.MULTILINE):
        for command in re.split(r" && |; |\s{3,}|\s+# ", line):
            if command.startswith("codemix ") and not re.search(r"[\[\]|`<>…]|\.\.\.|^codemix \w+ is ", command):
                found.append(command.rstrip("\\ "))
    return found


CASES = [(page, command) for page in PAGES for command in dict.fromkeys(shown_commands(page.read_text(encoding="utf-8")))]


def test_there_are_commands_to_try():
    assert len(CASES) > 40


@pytest.mark.parametrize(("page", "command"), CASES, ids=lambda value: value if isinstance(value, str) else value.name)
def test_command_of_a_page_is_taken(page, command):
    words = shlex.split(command)[1:]
    if words[0] not in COMMANDS:
        pytest.skip("a sentence that begins with the program's name")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parse(build_parser(words), words)
    except SystemExit as left:
        assert left.code == 0, f"{page.name}: {command}\n{said.getvalue()[-600:]}"
