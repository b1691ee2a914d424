"""What something was made with: versions of packages, the state of the source tree. No torch."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

__all__ = ["git_state", "installed_versions", "uncommitted_changes"]

PACKAGES = (
    "torch",
    "megatron-core",
    "transformer-engine",
    "numpy",
    "transformers",
    "tokenizers",
    "sentencepiece",
    "safetensors",
    "lm-eval",
)
SOURCES = Path(__file__).parent


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result; those that are absent are left out."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_state() -> dict | None:
    """Return commit of this package's checkout and whether it is modified, or None outside a git checkout."""
    commit = git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit.strip(), "dirty": bool(git("status", "--porcelain"))}


def uncommitted_changes() -> str:
    """Return what differs from the commit, as a patch; empty outside a git checkout."""
    return git("diff", "HEAD") or ""


def git(*words: str) -> str | None:
    """Return what git says of the checkout this package lies in, or None."""
    try:
        return subprocess.run(["git", "-C", SOURCES, *words], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
