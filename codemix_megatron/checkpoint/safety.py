"""Checkpoints of strangers: pickles are looked through before any reader of torch's builds what they name.

torch's distributed reader unpickles `.metadata` and every object that is no tensor without asking what it is made of; either
can name `os.system`. Both are built here first, by readers that let in only what checkpoints consist of. Extra states of Transformer
Engine hold a pickle of their own, which it loads: fp8_states.py looks into those.
"""

import codecs
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy
import torch
from torch.distributed.checkpoint import metadata

from codemix_megatron.checkpoint.fp8_states import check_extra_states
from codemix_megatron.checkpoint.torch_dist import METADATA, MetadataUnpickler
from codemix_megatron.errors import CheckpointError

__all__ = ["refuse_foreign_code"]

COMMON = "common.pt"
RECONSTRUCT = numpy.zeros(0).__reduce__()[0]
# Beyond what torch lets in by itself: arrays of numbers in random states, under both names NumPy has had, and Transformer Engine's extra states.
HARMLESS: list[Any] = [
    io.BytesIO, numpy.ndarray, numpy.dtype, numpy.dtypes.UInt32DType, RECONSTRUCT,
    (RECONSTRUCT, "numpy.core.multiarray._reconstruct"), codecs.encode,
]  # fmt: skip
GLOBAL = re.compile(r"(?:Unsupported |forbidden )?(?:global|GLOBAL)[: ]+(?:GLOBAL )?([\w.]+)")
FAULTS = (pickle.UnpicklingError, AttributeError, EOFError, KeyError, IndexError, TypeError, ValueError, ImportError, RuntimeError)


def refuse_foreign_code(checkpoint: Path) -> None:
    """Raise CheckpointError when a file of a checkpoint names what no checkpoint needs; nothing of it has run then."""
    try:
        with open(checkpoint / METADATA, "rb") as handle:
            found = MetadataUnpickler(handle).load()
        if not isinstance(found, metadata.Metadata):
            raise pickle.UnpicklingError(f"it holds {type(found).__name__}")
        for info in (found.storage_data or {}).values():
            if Path(info.relative_path).name != info.relative_path or getattr(info, "transform_descriptors", None):
                raise pickle.UnpicklingError(f"it reads {info.relative_path!r} in a way no checkpoint needs")
        objects = [(index.fqn, info) for index, info in (found.storage_data or {}).items() if is_object(found, index)]
    except FAULTS as fault:
        raise refusal(checkpoint, METADATA, fault) from None
    if (checkpoint / COMMON).is_file():
        check_object(checkpoint, COMMON, (checkpoint / COMMON).read_bytes())
    for entry, info in objects:
        name = info.relative_path
        with open(checkpoint / name, "rb") as handle:
            handle.seek(info.offset)
            check_object(checkpoint, name, handle.read(info.length), entry)


def is_object(found: metadata.Metadata, index: metadata.MetadataIndex) -> bool:
    """Say whether an entry is an object and no tensor; what is not described counts as one."""
    return not isinstance(found.state_dict_metadata.get(index.fqn), metadata.TensorStorageMetadata)


def check_object(checkpoint: Path, name: str, data: bytes, entry: str = "") -> None:
    """Build an object from classes that torch knows as harmless; raises CheckpointError for any other. `entry` is its name in the checkpoint."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        check_extra_states(entry, found)
    except FAULTS as fault:
        raise refusal(checkpoint, name, fault) from None


def refusal(checkpoint: Path, name: str, fault: Exception) -> CheckpointError:
    """Return the error for a file that holds more than data."""
    named = GLOBAL.search(str(fault))
    why = f"it names {named[1]}" if named else str(fault).strip().split("\n")[0][:200]
    return CheckpointError(
        f"{checkpoint}/{name}: holds what no checkpoint needs ({why}); loading it could run code. Nothing of it was run: take the"
        " checkpoint from where you trust it, or export it where it was made and import that",
        exit_code=2,
    )
