"""What a job was submitted with, saved beside its script: git state and changes, versions, modules, environment."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from codemix_megatron.records.atomic import replace_text, write_json
from codemix_megatron.records.provenance import git_state, installed_versions, uncommitted_changes
from codemix_megatron.redaction import kept_environment, redact_words

__all__ = ["save_surroundings"]


def save_surroundings(folder: Path) -> None:
    """Write environment.json, and changes.patch where the checkout differs from its commit; only variables that describe a job keep their values."""
    write_json(
        folder / "environment.json",
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": redact_words(sys.argv),
            "directory": os.getcwd(),
            "git": git_state(),
            "versions": installed_versions(),
            "modules": [name for name in os.environ.get("LOADEDMODULES", "").split(":") if name],
            "environment": kept_environment(os.environ),
        },
    )
    patch = folder / "changes.patch"
    if changes := uncommitted_changes():
        replace_text(patch, changes)
    else:
        patch.unlink(missing_ok=True)
