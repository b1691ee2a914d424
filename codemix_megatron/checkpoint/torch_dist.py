"""torch's distributed checkpoint format (`.metadata` and `*.distcp`), read and written in one process without ranks.

Megatron's torch_dist checkpoints are in it. Tensors are looked up by name and layer, whatever the layout was that
saved them; `.metadata` is a pickle, of which only the classes it is made of are let in.
"""

import enum
import io
import json
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.utils import _create_file_view

from codemix_megatron.checkpoint.written_file import WrittenFile
from codemix_megatron.errors import ConversionError

__all__ = ["METADATA", "ShardReader", "ShardWriter", "StoredTensor", "stored_names"]

METADATA = ".metadata"
SHARD = "__0_0.distcp"
ALLOWED_GLOBALS = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    # Megatron-LM keeps the plan of the save in it, for the next one.
    "torch.distributed.checkpoint.planner": {"SavePlan", "WriteItem", "WriteItemType", "TensorWriteData", "BytesIOWriteData"},
    "collections": {"OrderedDict"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", "float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool", "float8_e4m3fn", "float8_e5m2"},
    "pathlib": {"PosixPath", "Path", "PurePosixPath"},
}
MOVED_MODULES = {"pathlib._local": "pathlib"}  # where Python 3.13, and no other, says that a path's class stands


class MetadataUnpickler(pickle.Unpickler):
    """Builds what checkpoint metadata consist of and nothing else, so that reading a stranger's runs no code of theirs.

    `allowed` is what is let in, by module; `needed_by` is what a refusal says does not need the rest.
    """

    allowed: ClassVar[dict[str, set[str]]] = ALLOWED_GLOBALS
    needed_by: ClassVar[str] = "checkpoint"

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that is allowed."""
        if (module, name) == ("builtins", "getattr"):
            return enum_member
        module = MOVED_MODULES.get(module, module)
        if name not in self.allowed.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no {self.needed_by} needs")
        return super().find_class(module, name)


def enum_member(enumeration: type, name: str) -> enum.Enum:
    """Return a member of an enumeration: some patch releases of Python (3.11.2, Debian 12's) pickle it as `getattr(class, name)`.

    The name must be a member's, so nothing else of the class can be had this way.
    """
    if not isinstance(enumeration, enum.EnumMeta) or name not in enumeration.__members__:
        raise pickle.UnpicklingError(f"it asks for {name!r} of {enumeration!r}, which no checkpoint needs")
    return enumeration[name]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint: its shape, and where its parts lie in it and in files."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    parts: list[tuple]  # (offsets, sizes, file name, first byte, bytes)


class ShardReader:
    """The tensors of one checkpoint by name, and where its other objects lie."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files: dict[str, IO[bytes]] = {}
        with readable(folder):
            found = read_torch_metadata(folder)
            self.tensors, self.objects = dict(stored_tensors(found)), dict(stored_objects(found))

    def read(self, name: str, index: tuple[int, ...] = ()) -> torch.Tensor:
        """Return a tensor, or what is at an index of a stack of them: (layer,), (layer, expert).

        Memory: the tensor and, where it is in parts, one part more.
        """
        stored, depth = self.tensors[name], len(index)
        shape = stored.shape[depth:]
        whole, filled = None, 0
        for offsets, sizes, *lies in stored.parts:
            if not all(first <= at < first + size for at, first, size in zip(index, offsets, sizes, strict=False)):
                continue
            part = self.read_part(name, sizes, *lies)[tuple(at - first for at, first in zip(index, offsets, strict=False))]
            offsets = offsets[depth:]
            if tuple(part.shape) == shape:
                return part
            whole = torch.empty(shape, dtype=stored.dtype) if whole is None else whole
            whole[tuple(slice(o, o + s) for o, s in zip(offsets, part.shape, strict=True))] = part
            filled += part.numel()
        if filled != math.prod(shape):
            where = "".join(f" of {what} {number}" for what, number in zip(("layer", "expert"), index, strict=False))
            raise ConversionError(f"{self.folder}: {name}{where} has {filled} of {math.prod(shape)} numbers; the checkpoint is incomplete")
        assert whole is not None
        return whole

    def read_part(self, name: str, sizes: tuple, file_name: str, first: int, length: int) -> torch.Tensor:
        """Return one part as it was saved."""
        try:
            if file_name not in self.files:
                self.files[file_name] = open(self.folder / Path(file_name).name, "rb")  # noqa: SIM115 - closed in close
            view: Any = _create_file_view(cast("io.IOBase", self.files[file_name]), first, length)
            part = torch.load(view, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, pickle.UnpicklingError, EOFError) as fault:
            raise ConversionError(
                f"{self.folder}/{file_name}: {name} cannot be read ({(str(fault) or type(fault).__name__).splitlines()[0]})"
            ) from None
        if tuple(part.shape) != sizes:
            raise ConversionError(f"{self.folder}/{file_name}: {name} has shape {list(part.shape)}, {METADATA} says {list(sizes)}")
        return part

    def read_object(self, name: str) -> bytes:
        """Return an object that is no tensor as its bytes; it is a pickle, and whoever loads it runs what is in it."""
        file_name, first, length = self.objects[name]
        try:
            with open(self.folder / Path(file_name).name, "rb") as handle:
                handle.seek(first)
                found = handle.read(length)
        except OSError as fault:
            raise ConversionError(f"{self.folder}/{file_name}: {name} cannot be read ({fault.strerror})") from None
        if len(found) != length:
            raise ConversionError(f"{self.folder}/{file_name}: ends before {name} does; the checkpoint is incomplete")
        return found

    def close(self) -> None:
        """Close the files."""
        for handle in self.files.values():
            handle.close()
        self.files = {}


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Raise ConversionError in place of what reading a damaged `.metadata` raises."""
    try:
        yield
    except (OSError, pickle.UnpicklingError, AttributeError, EOFError, KeyError, TypeError, IndexError) as fault:
        raise ConversionError(f"{folder}/{METADATA}: cannot be read ({fault}); is it a torch_dist checkpoint?") from None


def read_torch_metadata(folder: Path) -> metadata.Metadata:
    """Return what a checkpoint says of itself."""
    with open(folder / METADATA, "rb") as handle:
        return MetadataUnpickler(handle).load()


def stored_names(folder: Path) -> set[str]:
    """Return the names of all tensors and objects in a checkpoint. Raises ConversionError where it cannot be read."""
    with readable(folder):
        return set(read_torch_metadata(folder).state_dict_metadata)


def stored_tensors(found: metadata.Metadata):
    """Yield (name, StoredTensor)."""
    for name, entry in found.state_dict_metadata.items():
        if not isinstance(entry, metadata.TensorStorageMetadata):
            continue
        parts = []
        for chunk in entry.chunks:
            info = found.storage_data[metadata.MetadataIndex(name, chunk.offsets)]
            parts.append((tuple(chunk.offsets), tuple(chunk.sizes), info.relative_path, info.offset, info.length))
        yield name, StoredTensor(tuple(entry.size), entry.properties.dtype, parts)


def stored_objects(found: metadata.Metadata):
    """Yield (name, (file name, first byte, bytes)) of what is no tensor."""
    for name, entry in found.state_dict_metadata.items():
        if isinstance(entry, metadata.BytesStorageMetadata):
            info = found.storage_data[metadata.MetadataIndex(name)]
            yield name, (info.relative_path, info.offset, info.length)


@contextmanager
def without_crc32() -> Iterator[None]:
    """Have torch.save leave out its own checksums, a fifth of an import's CPU time: no torch checks them, and card.json has SHA-256."""
    usual = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(usual)


class ShardWriter:
    """A torch_dist checkpoint in one file. It holds whole tensors, so it can be loaded at any layout."""

    def __init__(self, folder: Path):
        self.folder, self.file = folder, WrittenFile(folder / SHARD, hashed=True)
        self.entries: dict[str, Any] = {}
        self.storage: dict[metadata.MetadataIndex, Any] = {}

    def add(self, name: str, shape: tuple, offsets: tuple, part: torch.Tensor) -> None:
        """Append one part of a tensor of `shape`; parts of one tensor have one dtype."""
        fresh = metadata.TensorStorageMetadata(metadata.TensorProperties(dtype=part.dtype), torch.Size(shape), [])
        entry = self.entries.setdefault(name, fresh)
        entry.chunks.append(metadata.ChunkStorageMetadata(torch.Size(offsets), torch.Size(part.shape)))
        self.append(metadata.MetadataIndex(name, offsets, len(entry.chunks) - 1), part)

    def add_object(self, name: str, value) -> None:
        """Append an object that is no tensor."""
        self.entries[name] = metadata.BytesStorageMetadata()
        self.append(metadata.MetadataIndex(name), value)

    def copy_object(self, name: str, content: bytes) -> None:
        """Append an object that is no tensor as `read_object` gave it."""
        self.entries[name] = metadata.BytesStorageMetadata()
        first = self.file.tell()
        self.file.write(content)
        self.storage[metadata.MetadataIndex(name)] = filesystem._StorageInfo(SHARD, first, len(content))

    def append(self, index: metadata.MetadataIndex, value) -> None:
        """Write a value as torch's writer does and remember where it is."""
        first = self.file.tell()
        with without_crc32():
            torch.save(value, cast("IO[bytes]", self.file))  # it has what torch calls: write, tell, flush
        self.storage[index] = filesystem._StorageInfo(SHARD, first, self.file.tell() - first)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_) -> None:
        """Close the file, also after a fault."""
        self.file.close()

    def finish(self, unsharded: bytes | None = None) -> dict[str, str | None]:
        """Write the rest, bring all to disk and return the SHA-256 of the large file by its name.

        `unsharded` is the content of Megatron's common.pt; without it there is nothing in it.
        """
        self.file.close()
        whole = metadata.Metadata(self.entries, None, self.storage, metadata.StorageMeta(), "1.0.0")
        small = io.BytesIO()
        torch.save({}, small)
        backends = {"sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch", "common_backend_version": 1}
        for name, data in {
            METADATA: pickle.dumps(whole),
            "common.pt": small.getvalue() if unsharded is None else unsharded,
            "metadata.json": json.dumps(backends).encode(),
        }.items():
            file = WrittenFile(self.folder / name, hashed=False)
            file.write(data)
            file.close()
        return {SHARD: self.file.sha256}
