"""Examples can be had without a checkout, and each that documentation names is among them."""

import re
import subprocess

import pytest
from tiny_run import REPOSITORY

from codemix_megatron.cli.main import main

ALL = subprocess.run(["git", "ls-files", "examples", "slurm"], cwd=REPOSITORY, capture_output=True, text=True).stdout.split()


def test_all_examples_of_the_repository_are_listed_and_copied(tmp_path, capsys):
    if not ALL:
        pytest.skip("not a git checkout")
    assert main(["examples"]) == 0
    listed = set(capsys.readouterr().out.split())
    assert listed == {name for name in ALL if not name.endswith(".py")}
    assert main(["examples", "--copy", str(tmp_path)]) == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == listed
    assert all((tmp_path / name).read_bytes() == (REPOSITORY / name).read_bytes() for name in listed)


def test_what_is_there_already_is_kept(tmp_path, capsys):
    mine = tmp_path / "examples/demo/recipe.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert main(["examples", "--copy", str(tmp_path)]) == 0
    assert mine.read_text() == "mine" and "1 there already and kept" in capsys.readouterr().out


def test_every_example_that_pages_and_help_texts_name_is_there(capsys):
    main(["examples"])
    listed = set(capsys.readouterr().out.split())
    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("codemix_megatron/cli/**/*.py")]
    named = {name for page in pages for name in re.findall(r"\b(?:examples|slurm)/[\w./-]+\.(?:yaml|sbatch|ipynb)\b", page.read_text())}
    assert len(named) >= 5 and named <= listed, named - listed


def test_a_folder_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["examples", "--copy", str(tmp_path / "file")]) == 2
    assert "cannot be written (Not a directory); give another DIR" in capsys.readouterr().err
