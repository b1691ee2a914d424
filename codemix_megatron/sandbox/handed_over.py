"""The modules that run inside a sandbox, compiled once by the interpreter that runs them there."""

import json
import subprocess
from functools import cache
from pathlib import Path

from codemix_megatron.errors import SandboxError

__all__ = ["handed_over"]

MODULES = (
    "values",
    "channel",
    "stand_ins",
    "mutants",
    "collecting",
    "serving",
    "program_names",
    "assertions",
    "examining",
)  # each needs those before it
COMPILE = """import base64, json, marshal, sys
sources = json.load(sys.stdin)
codes = {name: compile(source, name, "exec", dont_inherit=True) for name, source in sources.items()}
print(base64.b64encode(marshal.dumps(codes)).decode())"""


@cache
def handed_over(python: str) -> str:
    """Return the modules as code of the interpreter at `python`, in base64."""
    sources = {f"codemix_megatron.sandbox.{name}": Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    words = [python, "-I", "-S", "-B", "-c", COMPILE]
    try:
        done = subprocess.run(words, input=json.dumps(sources), capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as fault:
        said = (getattr(fault, "stderr", "") or "").strip().split("\n")[-1]
        raise SandboxError(f"{python}: cannot compile what runs tests ({fault}; {said}); give another Python", exit_code=2) from None
    return done.stdout.strip()
