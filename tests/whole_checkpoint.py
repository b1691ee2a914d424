"""A checkpoint's tensors, read whole in this process, and written back changed."""

import io
from pathlib import Path

from codemix_megatron.checkpoint.metadata import read_metadata, write_metadata
from codemix_megatron.records.checksum import file_sha256

__all__ = ["poison", "tensors_of"]


def tensors_of(checkpoint: Path) -> dict:
    """Return name -> tensor, put together from the shards of all ranks."""
    import torch
    from torch.distributed.checkpoint import FileSystemReader, load
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = FileSystemReader(checkpoint)
    kinds = reader.read_metadata().state_dict_metadata.items()
    tensors = {name: torch.empty(k.size, dtype=k.properties.dtype) for name, k in kinds if isinstance(k, TensorStorageMetadata)}
    load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def poison(checkpoint: Path, part: str, row: int, value: float) -> int:
    """Set one row of every stored weight whose name holds `part`, in its file, and correct the metadata; return how many there were.

    The checkpoint stays sound by its checksums: this is a fault that training itself brought about.
    """
    import torch
    from torch.distributed.checkpoint import FileSystemReader

    changed, metadata = 0, read_metadata(checkpoint)
    for index, info in FileSystemReader(checkpoint).read_metadata().storage_data.items():
        if part not in index.fqn or "exp_avg" in index.fqn:
            continue
        path = checkpoint / info.relative_path
        content = bytearray(path.read_bytes())
        tensor = torch.load(io.BytesIO(content[info.offset : info.offset + info.length]))
        tensor[row] = value
        torch.save(tensor, blob := io.BytesIO())
        assert len(blob.getvalue()) == info.length
        content[info.offset : info.offset + info.length] = blob.getvalue()
        path.write_bytes(content)
        metadata["files"][info.relative_path]["sha256"] = file_sha256(path)
        changed += 1
    write_metadata(checkpoint, metadata)
    return changed
