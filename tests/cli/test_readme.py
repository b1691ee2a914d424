"""The commands of docs/commands.md do what it says, in its order; the README names what it should."""

import json
import re
import shlex
import shutil

import pytest
from tiny_run import REPOSITORY

pytestmark = pytest.mark.distributed

README, COMMANDS_PAGE, ARCHITECTURE = (
    (REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "docs/commands.md", "docs/architecture.md")
)
STARTS_RANKS = ("prepare", "train")  # processes of their own; the others run in this one, which has imported torch already


def commands() -> list[str]:
    """Return the lines of the block that the page marks for this test."""
    block = re.search(r"<!-- commands:.*?-->\n```sh\n(.*?)```", COMMANDS_PAGE, re.DOTALL)
    return block[1].splitlines()


def test_commands_run_in_the_order_of_their_page(tiny, tmp_path):
    for name in ("recipe.yaml", "prose.jsonl", "snippets.jsonl"):
        shutil.copy(tiny.folder / name, tmp_path)
    here = type(tiny)(tmp_path)
    assert len(commands()) >= 8
    for line in commands():
        program, *words = shlex.split(line)
        assert program == "codemix"
        done = here.codemix(*words, in_full=True) if words[0] in STARTS_RANKS else here.codemix_here(*words)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    for made in ("recipe.yaml", "plan.json", "journal.jsonl", "exports/step-20/export.json", "scores/step-20.json", "report/index.html"):
        assert (tmp_path / "runs" / "mine" / made).is_file(), made
    assert (tmp_path / "runs" / "imported" / "checkpoints" / "step-0" / "card.json").is_file()
    said = {
        command: json.loads(here.codemix_here(command, "runs/mine", "--json").stdout) for command in ("audit", "checkpoints", "evaluate")
    }
    assert said["audit"]["agrees"] and said["audit"]["step"] == 20 and not said["audit"]["differences"]
    assert [entry["step"] for entry in said["checkpoints"]][-1] == 20
    assert said["evaluate"] == json.loads((tmp_path / "runs" / "mine" / "scores" / "step-20.json").read_text())


def test_every_command_and_room_has_its_line():
    from codemix_megatron.cli.commands import COMMANDS

    rooms = [p.name for p in (REPOSITORY / "codemix_megatron").iterdir() if p.is_dir() and (p / "__init__.py").is_file()]
    assert not [name for name in COMMANDS if f"codemix {name}" not in COMMANDS_PAGE]
    assert not [room for room in rooms if not re.search(rf"^  {room}/ ", ARCHITECTURE, re.MULTILINE)]


def test_every_dependency_is_named_with_its_reason():
    from importlib.metadata import PackageNotFoundError, requires

    try:
        wanted = requires("codemix_megatron") or []
    except PackageNotFoundError:
        pytest.skip("the package is not installed, only importable")
    names = {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in wanted}
    missing = [name for name in sorted(names) if name not in README.lower()]
    assert not missing
