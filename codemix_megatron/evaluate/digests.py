"""What a score depends on, as a digest: the model's files, the task, its data, its limits, and how we score."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from codemix_megatron.records.checksum import file_sha256

__all__ = ["folder_digest", "named_files", "task_digest", "text_keys"]

SCORING_VERSION = 2  # raise it when the same inputs would give other scores
KEY_CHARACTERS = 12
PATH = re.compile(r"[^\s'\"\[\]{},]*/[^\s'\"\[\]{},]+")
NOT_THE_MODEL = {"README.md", "export.json", "training_args.bin"}


def folder_digest(folder) -> str:
    """Return the digest of a model's folder: names and contents of the files in it that make the model."""
    paths = sorted(p for p in Path(folder).iterdir() if p.is_file() and p.name not in NOT_THE_MODEL)
    return hashlib.sha256(json.dumps([(p.name, file_sha256(p)) for p in paths]).encode()).hexdigest()


def named_files(definition: Path, directory: Path) -> list[Path]:
    """Return the files that a task file names by absolute paths or such as `../data/questions.jsonl`, from `directory` on."""
    words = set(PATH.findall(definition.read_text(encoding="utf-8", errors="replace")))
    return [Path(os.path.normpath(directory / word)) for word in words if os.path.isfile(directory / word)]


def task_digest(model: str, **what) -> str:
    """Return the digest of one task for one model; `what` is anything JSON can hold."""
    from importlib.metadata import version

    content = {"model": model, "scoring": SCORING_VERSION, "lm_eval": version("lm_eval"), **what}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def text_keys(texts: Iterable[str]) -> list[str]:
    """Return a short name of each text's content; copies are numbered, so that every name is there once."""
    keys: list[str] = []
    seen: dict[str, int] = {}
    for text in texts:
        key = hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:KEY_CHARACTERS]
        seen[key] = seen.get(key, -1) + 1
        keys.append(f"{key}.{seen[key]}" if seen[key] else key)
    return keys
