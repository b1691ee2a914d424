"""The metadata of a checkpoint, in its file card.json: what there is to know of it, and a checksum of that. No torch."""

import hashlib
import json
from pathlib import Path

from codemix_megatron.errors import CheckpointError
from codemix_megatron.records.atomic import as_written, read_json, write_json
from codemix_megatron.records.run_folder import CHECKPOINT_METADATA

__all__ = ["read_metadata", "write_metadata"]

OWN = "card_sha256"  # of everything else in it


def write_metadata(checkpoint, metadata: dict) -> None:
    """Write metadata into a checkpoint's folder, atomically."""
    written = as_written(metadata)
    write_json(Path(checkpoint) / CHECKPOINT_METADATA, {**written, OWN: digest(written)})


def read_metadata(checkpoint) -> dict:
    """Return a checkpoint's metadata; raises CheckpointError when there is none or it is not as it was written."""
    try:
        metadata = read_json(Path(checkpoint) / CHECKPOINT_METADATA)
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{checkpoint}: not a checkpoint ({fault})", exit_code=2) from None
    if not isinstance(metadata, dict) or metadata.pop(OWN, None) != digest(metadata):
        raise CheckpointError(f"{checkpoint}: {CHECKPOINT_METADATA} is not as it was written (its own checksum is another)", exit_code=2)
    return metadata


def digest(metadata: dict) -> str:
    """Return the SHA-256 of metadata as JSON gives it back."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(metadata)), sort_keys=True).encode()).hexdigest()
