"""What comes with a public model beside its weights, kept in the run that starts from it: tokenizer, generation settings, licence.

A run must not depend on a folder somebody downloaded: what is here when it starts comes out again with every export, or the
export says what is gone. No torch.
"""

import re
import shutil
from dataclasses import replace
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.records.atomic import partial_path
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["TOKENIZER_CONFIG", "TOKENIZER_FILES", "carry_model_files", "keep_model_files", "kept_tokenizer", "licence_of"]

TOKENIZER_CONFIG = "tokenizer_config.json"
# What a public model's tokenizer consists of, without code.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tekken.json",
)
OTHER_FILES = ("generation_config.json", "LICEN[CS]E*", "NOTICE*", "USE_POLICY*")
FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)


def keep_model_files(folder: Path, metadata: TokenizerMetadata, run: RunFolder) -> tuple[Path, dict[str, str]]:
    """Copy what comes with a model into the run, its tokenizer's `metadata` naming the file that ids come from.

    Return where that file is now, and the SHA-256 of each file.
    """
    partial, own = partial_path(run.tokenizer), Path(metadata.path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    found = [path for pattern in (*TOKENIZER_FILES, *OTHER_FILES) for path in folder.glob(pattern) if path.is_file()]
    for name, path in ({path.name: path for path in found} | {own.name: own}).items():
        shutil.copyfile(path, partial / name)
    sums = {path.name: file_sha256(path) for path in sorted(partial.iterdir())}
    shutil.rmtree(run.tokenizer, ignore_errors=True)
    partial.rename(run.tokenizer)
    return run.tokenizer / own.name, sums


def carry_model_files(checkpoint: Path, run: RunFolder) -> None:
    """Copy what came with a public model from the run that a checkpoint lies in, unless it is there."""
    theirs = RunFolder(checkpoint.parent.parent).tokenizer
    if theirs.is_dir() and not run.tokenizer.exists():
        partial = partial_path(run.tokenizer)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(theirs, partial)
        partial.rename(run.tokenizer)


def kept_tokenizer(run: RunFolder, metadata: TokenizerMetadata, origin: dict) -> TokenizerMetadata:
    """Return the tokenizer's metadata with the path of the run's own copy, or of that its recipe names since it was moved, where that is what made the corpora.

    Raises ConversionError when a file that came with the model is neither there nor beside the tokenizer's file as it was.
    """
    folders = [folder for folder in (run.tokenizer, Path(metadata.path).parent, *recipes_tokenizer(run)) if folder.is_dir()]
    faults = [changed_file(folder, origin.get("files", {})) for folder in folders]
    if faults and None not in faults:
        raise ConversionError(str(faults[0]))
    for folder in (folder for folder, fault in zip(folders, faults, strict=True) if fault is None):
        for path in sorted(folder.glob("*")):
            if path.suffix in (".json", ".model") and file_sha256(path) == metadata.sha256:
                return replace(metadata, path=str(path))
    return metadata


def recipes_tokenizer(run: RunFolder) -> list[Path]:
    """Return the folder of the tokenizer that the run's recipe names: another than the checkpoint's where a run was moved and trained on."""
    import yaml

    try:
        return [Path(yaml.safe_load(run.recipe.read_text(encoding="utf-8"))["tokenizer"]["path"]).parent]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return []


def changed_file(folder: Path, files: dict[str, str]) -> str | None:
    """Say which file is not as it came with the model, or return None."""
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != wanted:
            what = "is not as it came with the model" if path.is_file() else "came with the model and is gone"
            return f"{path}: {what}; put it back as it was (sha256 {wanted[:12]}...)"
    return None


def licence_of(folder: Path) -> str | None:
    """Return the licence that a model's README.md names at its head."""
    import yaml

    path = folder / "README.md"
    head = FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    try:
        found = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return None
    licence = found.get("license") if isinstance(found, dict) else None
    return licence if isinstance(licence, str) else None
