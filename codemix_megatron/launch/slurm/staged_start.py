"""A start whose ranks run from each node's own disk: unpacked there before they start. Where that fails they run from where they came from."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codemix_megatron.launch.slurm.unpacking import WAIT_SECONDS, staged_python

__all__ = ["stage"]


def stage(
    arguments: Any, command: list[str], nodes: tuple[str, ...], chosen: list[str], say: Callable[[str], None]
) -> tuple[list[str], dict[str, str]]:
    """Unpack the environment on the nodes of a start; return the command of its ranks and the variables they need beside others."""
    folder, at = Path(arguments.stage_to), command.index("codemix_megatron") - 2
    words = ["srun", f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1", "--export=ALL", *chosen]
    words += [sys.executable, "-m", "codemix_megatron.launch.slurm.unpacking", arguments.stage, str(folder), command[at]]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * WAIT_SECONDS)
        told = [json.loads(line) for line in done.stdout.splitlines()]
        failed = done.returncode or len(told) != len(nodes)
        why = " ".join(done.stderr.split())[-400:]
    except (OSError, subprocess.SubprocessError, ValueError) as fault:
        failed, why, told = True, str(fault), []
    if failed:
        say(f"warning: the environment could not be unpacked on every node, so ranks run from {command[at]}: {why}")
        return command, {}
    say(describe(told, folder, command[at]))
    path = ":".join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return [*command[:at], staged_python(folder), *command[at + 1 :]], {"PYTHONPATH": path}


def describe(told: list[dict], folder: Path, python: str) -> str:
    """Return what was unpacked, how long it took, and what it saves."""
    took = [entry["seconds"] for entry in told if entry["seconds"] is not None]
    if not took:
        return f"the environment is in {folder} of {len(told)} nodes already"
    first = next((entry for entry in told if "here" in entry), None)
    line = f"the environment ({told[0]['bytes'] / 1e9:.2f} GB) was unpacked into {folder} of {len(took)} nodes in {max(took):.1f} s"
    if first is None or first["here"] == float("inf"):
        return line
    here, there = first["here"], first["there"]
    return f"{line}; a rank's imports take {here:.1f} s there, {there:.1f} s with {python}: {there - here:.1f} s saved at each start"
