"""Exports that outside readers are given, and how they are asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.checkpoint.metadata import read_metadata, write_metadata
from codemix_megatron.conversion.export import ExportOptions, export_run
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["ask", "export_without_parity", "export_trained_here"]

READERS = Path(os.environ.get("CODEMIX_READERS", REPOSITORY / "build" / "readers"))
# Which packages, by their folder, each reader needs before those of this environment.
PACKAGES = {
    "transformers": ("transformers-4.57.1",),
    "mlx": ("mlx-lm-0.32.2",),
    "ctranslate2": ("ctranslate2-4.8.5", "transformers-4.57.1"),
}


def ask(reader: str, folders: dict[str, Path], work: Path, row=(), texts=(), prompt=()) -> dict:
    """Return what a reader says of each folder; skips the test where `make test-readers` has not installed it."""
    packages = [READERS / name for name in PACKAGES[reader]]
    if lacking := [path.name for path in packages if not path.is_dir()]:
        pytest.skip(f"{', '.join(lacking)} not in {READERS}; `make test-readers` installs what is needed")
    job, out = work / f"{reader}.job.json", work / f"{reader}.out.json"
    asked = {"row": list(row), "texts": list(texts), "prompt": list(prompt)}
    job.write_text(json.dumps({"folders": {name: str(path) for name, path in folders.items()}, **asked}))
    words = [sys.executable, str(Path(__file__).with_name("outside_reader.py")), reader, str(job), str(out)]
    environment = {**clean_environment(), "PYTHONPATH": os.pathsep.join(map(str, packages)), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(out.read_text())


def export_without_parity(run: Path, folder: Path) -> Path:
    """Export the newest checkpoint of a run; what the reader says is compared instead."""
    return export_run(RunFolder(run), output=folder, options=ExportOptions(parity=False)).folder


def export_trained_here(run: Path, folder: Path, tokenizer: Path) -> Path:
    """Export a run as if its model had been trained from the start with another tokenizer of at most as many ids."""
    checkpoint = run / "checkpoints" / "step-0"
    metadata = read_metadata(checkpoint)
    ours = load_tokenizer(tokenizer).metadata
    write_metadata(checkpoint, metadata | {"tokenizer": vars(ours), "hugging_face": None})
    return export_without_parity(run, folder)
