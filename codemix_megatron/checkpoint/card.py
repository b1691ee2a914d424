"""The card of a checkpoint: what there is to know of it, and a checksum of that. No torch."""

import hashlib
import json
from pathlib import Path

from codemix_megatron.errors import CheckpointError
from codemix_megatron.records.atomic import as_written, read_json, write_json
from codemix_megatron.records.run_folder import CARD

__all__ = ["read_card", "write_card"]

OWN = "card_sha256"  # of everything else on the card


def write_card(checkpoint, card: dict) -> None:
    """Write a card into a checkpoint's folder, atomically."""
    written = as_written(card)
    write_json(Path(checkpoint) / CARD, {**written, OWN: digest(written)})


def read_card(checkpoint) -> dict:
    """Return a checkpoint's card; raises CheckpointError when there is none or it is not as it was written."""
    try:
        card = read_json(Path(checkpoint) / CARD)
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{checkpoint}: not a checkpoint ({fault})", exit_code=2) from None
    if not isinstance(card, dict) or card.pop(OWN, None) != digest(card):
        raise CheckpointError(f"{checkpoint}: {CARD} is not as it was written (its own checksum is another)", exit_code=2)
    return card


def digest(card: dict) -> str:
    """Return the SHA-256 of a card as JSON gives it back."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(card)), sort_keys=True).encode()).hexdigest()
