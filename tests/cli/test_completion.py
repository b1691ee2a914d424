"""What the completion scripts and the list of commands offer."""

import io
import shutil
import subprocess
from contextlib import redirect_stdout

import pytest
from patience import PATIENCE_SECONDS

from codemix_megatron.cli.commands import COMMANDS, GROUPS, command_list
from codemix_megatron.cli.main import main

ASK = """source {script}
COMP_WORDS=(codemix {words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
$(complete -p codemix | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}" """


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    written = io.StringIO()
    with redirect_stdout(written):
        assert main(["completion", "bash"]) == 0
    path = tmp_path_factory.mktemp("completion") / "codemix.bash"
    path.write_text(written.getvalue())
    return path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ver", {"verify", "verify-corpus"}),
        ("plan --sug", {"--suggest"}),
        ("study re", {"resume", "report"}),
        ("completion z", {"zsh"}),
        ("plan rec", {"recipe.yaml"}),
    ],
)
def test_bash_offers_commands_options_choices_and_files(script, tmp_path, words, offered):
    (tmp_path / "recipe.yaml").touch()
    asked = subprocess.run(
        ["bash", "--norc", "-c", ASK.format(script=script, words=words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert set(asked.stdout.split()) == offered, asked.stderr


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_list_of_commands_fits_the_terminal_and_leaves_none_out(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    lines = command_list().splitlines()
    assert max(map(len, lines)) < int(columns)
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == list(COMMANDS)
    assert [line.rstrip(":") for line in lines if line.endswith(":") and not line.startswith(" ")] == list(GROUPS)


def test_zsh_takes_the_script(tmp_path):
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("zsh is not installed")
    written = io.StringIO()
    with redirect_stdout(written):
        main(["completion", "zsh"])
    path = tmp_path / "_codemix"
    path.write_text(written.getvalue())
    assert subprocess.run([zsh, "-n", path], timeout=PATIENCE_SECONDS).returncode == 0
