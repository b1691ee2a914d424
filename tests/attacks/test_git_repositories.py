"""A stranger's repository runs no command, whatever its own settings name."""

import os
import stat
import subprocess

import pytest
from patience import PATIENCE_SECONDS

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import Document, Position
from codemix_megatron.readers.git_histories import git_input, read_git_history

SETTINGS = {
    "core.fsmonitor": "{script}",
    "core.pager": "{script}",
    "core.sshCommand": "{script}",
    "core.gitProxy": "{script}",
    "core.hooksPath": "{folder}",
    "core.editor": "{script}",
    "core.alternateRefsCommand": "{script}",
    "diff.external": "{script}",
    "diff.evil.command": "{script}",
    "diff.evil.textconv": "{script}",
    "filter.evil.smudge": "{script}",
    "filter.evil.process": "{script}",
    "gpg.program": "{script}",
    "gpg.ssh.program": "{script}",
    "log.showSignature": "true",
    "alias.log": "!{script}",
    "alias.rev-list": "!{script}",
    "credential.helper": "!{script}",
    "pager.log": "{script}",
    "trailer.x.command": "{script}",
    "uploadpack.packObjectsHook": "{script}",
    "interactive.diffFilter": "{script}",
}
REMOTES = {
    "uploadpack": {"url": ".", "uploadpack": "{script}; git-upload-pack", "promisor": "true"},
    "ext": {"url": "ext::{script}", "promisor": "true"},
    "vcs": {"url": "x", "vcs": "ext::{script}", "promisor": "true"},
    "ssh": {"url": "ssh://-oProxyCommand={script}/x", "promisor": "true"},
    "file": {"url": "file:///nowhere", "uploadpack": "{script}", "promisor": "true", "partialclonefilter": "blob:none"},
}


def git(folder, *words: str) -> str:
    """Run git as an author would."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgSign=false"]
    return subprocess.run(
        ["git", *identity, "-C", folder, *words], check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository of two commits whose files have a driver called evil, and a script that leaves a mark."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / ".gitattributes").write_text("* diff=evil filter=evil\n")
    for text in ("one\n", "two\n"):
        (folder / "file.txt").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", text)
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    for hook in ("post-index-change", "reference-transaction", "pre-auto-gc"):
        (tmp_path / "hooks").mkdir(exist_ok=True)
        os.symlink(script, tmp_path / "hooks" / hook)
    return folder


def documents(folder) -> list[Document]:
    """Read all of a history."""
    git_input(folder, None)
    return list(read_git_history(folder, "x", Position()))


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_a_repository_run_nothing(repository, tmp_path, setting):
    before = documents(repository)
    git(repository, "config", setting, SETTINGS[setting].format(script=tmp_path / "evil.sh", folder=tmp_path / "hooks"))
    if setting == "log.showSignature":
        git(repository, "config", "gpg.program", str(tmp_path / "evil.sh"))
    assert documents(repository) == before and len(before) == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("remote", REMOTES)
def test_a_missing_object_is_not_fetched_by_the_repositorys_own_command(repository, tmp_path, remote):
    blob = git(repository, "rev-parse", "HEAD:file.txt")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for name, value in REMOTES[remote].items():
        git(repository, "config", f"remote.origin.{name}", value.format(script=tmp_path / "evil.sh"))
    git(repository, "config", "extensions.partialClone", "origin")
    git(repository, "config", "core.repositoryFormatVersion", "1")
    git(repository, "config", "protocol.allow", "always")
    with pytest.raises(CorpusError, match="git"):
        documents(repository)
    assert not (tmp_path / "ran").exists()


def test_secrets_of_the_environment_do_not_reach_git(repository, tmp_path, monkeypatch):
    from codemix_megatron.readers.git_histories import environment

    monkeypatch.setenv("WANDB_API_KEY", "planted")
    assert "planted" not in environment().values()
