"""An environment is packed once and unpacked once on each node, by nobody else's hand and within what its disk has."""

import json
import os
import subprocess
import sys
import threading
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest

from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.slurm import staged_start, unpacking
from codemix_megatron.launch.slurm.staging import Environment, digest_of, find_environment, pack
from codemix_megatron.launch.slurm.unpacking import COMPLETE, staged_python, unpack

SAY = "import sys, there; print(sys.prefix, there.__file__, there.WORD)"


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    """A virtual environment with one module, and a package beside it."""
    folder = tmp_path_factory.mktemp("made")
    venv.create(folder / "venv", symlinks=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "there.py").write_text("WORD = 'packed'\n")
    (folder / "source" / "codemix_megatron").mkdir(parents=True)
    (folder / "source" / "codemix_megatron" / "__init__.py").write_text("")
    made = Environment(folder / "venv", folder / "source" / "codemix_megatron", folder / "staged" / "abc.tar")
    assert pack(made) and not pack(made)
    return made


def test_unpacked_environment_is_the_one_that_runs(environment, tmp_path):
    folder = tmp_path / "own" / "abc"
    assert unpack(environment.archive, folder) is not None
    done = subprocess.run([staged_python(folder), "-c", SAY], capture_output=True, text=True, check=True)
    prefix, file, word = done.stdout.split()
    assert prefix == str(folder / "environment") and file.startswith(prefix) and word == "packed"
    assert (folder / "codemix_megatron" / "__init__.py").is_file()


def test_second_start_finds_it_there(environment, tmp_path):
    folder = tmp_path / "own" / "abc"
    took = []
    threads = [threading.Thread(target=lambda: took.append(unpack(environment.archive, folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(seconds is not None for seconds in took) == 1 and len(took) == 4


def test_half_unpacked_one_is_unpacked_again(environment, tmp_path):
    folder = tmp_path / "own" / "abc"
    unpack(environment.archive, folder)
    (folder / COMPLETE).unlink()
    (folder / "environment" / "bin" / "python").unlink()
    assert unpack(environment.archive, folder) is not None and Path(staged_python(folder)).exists()


def test_folder_that_others_could_write_is_refused(environment, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(LaunchError, match="this user alone"):
        unpack(environment.archive, tmp_path / "open" / "abc")
    (tmp_path / "link").symlink_to(tmp_path / "open")
    with pytest.raises(LaunchError, match="this user alone"):
        unpack(environment.archive, tmp_path / "link" / "abc")
    assert not list((tmp_path / "open").iterdir())


def test_disk_without_room_is_named(environment, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(LaunchError, match="name another stage_directory in the site file"):
        unpack(environment.archive, tmp_path / "own" / "abc")


def test_damaged_archive_leaves_nothing_that_looks_whole(environment, tmp_path):
    damaged = tmp_path / "abc.tar"
    damaged.write_bytes(b"x" * 5000)
    with pytest.raises(LaunchError, match="cannot be unpacked"):
        unpack(damaged, tmp_path / "own" / "abc")
    assert not (tmp_path / "own" / "abc").exists()


def test_environments_that_nobody_uses_any_more_are_removed(environment, tmp_path):
    folder = tmp_path / "own" / "abc"
    for name, days in (("old", 8), ("used", 1)):
        (tmp_path / "own" / name).mkdir(parents=True, mode=0o700)
        (tmp_path / "own" / name / COMPLETE).touch()
        os.utime(tmp_path / "own" / name / COMPLETE, times=(os.stat(tmp_path).st_mtime - days * 86400,) * 2)
    (tmp_path / "own").chmod(0o700)
    unpack(environment.archive, folder)
    assert not (tmp_path / "own" / "old").exists() and (tmp_path / "own" / "used").exists()


def test_changed_environment_has_another_name(environment, tmp_path):
    before = digest_of(environment.prefix, environment.package)
    (environment.package / "new.py").write_text("x")
    try:
        assert digest_of(environment.prefix, environment.package) != before
    finally:
        (environment.package / "new.py").unlink()
    assert digest_of(environment.prefix, environment.package) == before


def test_environment_of_the_ranks_is_found_and_the_systems_python_refused(tmp_path):
    found = find_environment(sys.executable, tmp_path)
    assert found.prefix == Path(sys.prefix) and found.archive.parent == tmp_path and found.package.name == "codemix_megatron"
    with pytest.raises(LaunchError, match="cannot say what it imports"):
        find_environment(str(tmp_path / "python"), tmp_path)


SRUN = """#!{python}
import json, sys
print(json.dumps({{"node": "a", "seconds": 4.0, "bytes": 2_000_000_000, "there": 9.5, "here": 3.25}}))
print(json.dumps({{"node": "b", "seconds": 6.0, "bytes": 2_000_000_000}}))
sys.exit({code})
"""


@pytest.mark.parametrize("code", [0, 1])
def test_ranks_start_from_the_nodes_own_disk_or_where_that_failed_from_where_they_came(tmp_path, monkeypatch, code):
    srun = tmp_path / "srun"
    srun.write_text(SRUN.format(python=sys.executable, code=code))
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    command, said = ["srun", "--nodes=2", "/venv/bin/python", "-m", "codemix_megatron", "train", "r.yaml"], []
    arguments = SimpleNamespace(stage="/s/abc.tar", stage_to="/tmp/codemix-0/abc")
    words, told = staged_start.stage(arguments, command, ("a", "b"), [], said.append)
    if code:
        assert words == command and not told and said[0].startswith("warning: the environment could not be unpacked")
    else:
        assert words == [*command[:2], "/tmp/codemix-0/abc/environment/bin/python", *command[3:]]
        assert told == {"PYTHONPATH": "/tmp/codemix-0/abc:/mine"}
        assert said == [
            "the environment (2.00 GB) was unpacked into /tmp/codemix-0/abc of 2 nodes in 6.0 s; a rank's imports take 3.2 s there,"
            " 9.5 s with /venv/bin/python: 6.2 s saved at each start"
        ]


def test_each_node_says_what_it_did_in_a_line(environment, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_NODEID", "1")
    words = [str(environment.archive), str(tmp_path / "own" / "abc"), sys.executable]
    assert unpacking.main(words) == 0 and unpacking.main(words) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["seconds"] >= 0 and second["seconds"] is None and "here" not in first
