"""What a job was submitted with, saved beside its script: git state and changes, versions, modules, environment."""

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from codemix_megatron.records.atomic import replace_text, write_json
from codemix_megatron.records.provenance import git_state, installed_versions, uncommitted_changes

__all__ = ["save_surroundings"]

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)


def save_surroundings(folder: Path) -> None:
    """Write environment.json, and changes.patch where the checkout differs from its commit; values that look secret are left out."""
    write_json(
        folder / "environment.json",
        {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "directory": os.getcwd(),
            "git": git_state(),
            "versions": installed_versions(),
            "modules": [name for name in os.environ.get("LOADEDMODULES", "").split(":") if name],
            "environment": {name: "(left out)" if SECRET.search(name) else value for name, value in sorted(os.environ.items())},
        },
    )
    patch = folder / "changes.patch"
    if changes := uncommitted_changes():
        replace_text(patch, changes)
    else:
        patch.unlink(missing_ok=True)
