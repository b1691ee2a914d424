"""Safetensors, one tensor at a time in both directions, so that a model never has to fit into memory.

The library `safetensors` writes a whole file from tensors in memory and reads by mapping the file, whose pages then
count as this process's. The format: length of the header as u64, the header as JSON, the tensors one after the other.
"""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import torch

from codemix_megatron.checkpoint.written_file import WrittenFile
from codemix_megatron.errors import ConversionError
from codemix_megatron.records.atomic import replace_text

__all__ = ["SafetensorsFolder", "SafetensorsWriter", "TensorPlan", "check_finite"]

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LARGEST_HEADER = 100_000_000  # as in the library
BLOCK_BYTES = 2**25
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TensorPlan = dict[str, tuple[tuple[int, ...], torch.dtype]]


class SafetensorsFolder:
    """The tensors of a Hugging Face folder by name, out of the files that transformers would read; nothing but safetensors is read."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.entries: dict[str, dict] = {}
        for path, wanted in weight_files(folder).items():
            found = read_header(path)
            if lacking := sorted((wanted or set()) - found.keys()):
                raise ConversionError(f"{path}: lacks {len(lacking)} tensors that {INDEX} says it holds ({lacking[0]}, ...); get it again")
            self.entries |= found if wanted is None else {name: found[name] for name in wanted}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.entries[name]["shape"]

    def dtype(self, name: str) -> torch.dtype | None:
        """Return a tensor's dtype; None when it is none that weights are kept in here."""
        return DTYPES.get(self.entries[name]["dtype"])

    def read(self, name: str, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return a tensor, or its rows from `first` to before `last`."""
        entry = self.entries[name]
        rows = slice(first, last).indices(entry["shape"][0])
        shape = (rows[1] - rows[0], *entry["shape"][1:])
        tensor = torch.empty(shape, dtype=DTYPES[entry["dtype"]])
        row_bytes = math.prod(shape[1:]) * tensor.itemsize
        with open(entry["path"], "rb") as handle:
            handle.seek(entry["start"] + rows[0] * row_bytes)
            found = handle.readinto(tensor.view(-1).view(torch.uint8).numpy().data)
        if found != tensor.nbytes:
            raise ConversionError(f"{entry['path']}: ends inside {name}; it was cut off")
        return tensor


def weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """Return file -> names of the tensors to take from it, None for all: model.safetensors where it is, else what the index lists.

    Other files may lie beside: Mistral's consolidated.safetensors, adapters, shards of an earlier download.
    """
    if (folder / WHOLE).is_file():
        return {folder / WHOLE: None}
    if (folder / INDEX).is_file():
        return indexed_files(folder)
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    found = f"only {', '.join(others[:3])}" if others else "and pickled weights are not read"
    raise ConversionError(f"{folder}: holds neither {WHOLE} nor {INDEX}, {found}; get the model as transformers saves it, in safetensors")


def indexed_files(folder: Path) -> dict[Path, set[str] | None]:
    """Return the files of an index with their tensors; one that is not there is named once."""
    try:
        listed = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        files: dict[Path, set[str]] = {}
        for name, file_name in listed.items():
            files.setdefault(folder / Path(file_name).name, set()).add(name)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ConversionError(f"{folder / INDEX}: not an index ({type(fault).__name__}: {fault}); get it again") from None
    missing = [f"{path.name} ({len(names)} tensors)" for path, names in files.items() if not path.is_file()]
    if missing:
        raise ConversionError(f"{folder}: {INDEX} lists {', '.join(missing)}, not there; get {'it' if len(missing) == 1 else 'them'} again")
    return dict(files)


def read_header(path: Path) -> dict[str, dict]:
    """Return name -> path, dtype, shape and first byte; raises ConversionError when the header does not fit the file."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > min(LARGEST_HEADER, size - 8):
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(handle.read(length))
        header.pop("__metadata__", None)
        return {name: checked_entry(path, entry, 8 + length, size) for name, entry in header.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ConversionError(f"{path}: not a safetensors file ({type(fault).__name__}: {fault}); get it again") from None


def checked_entry(path: Path, entry: dict, data: int, file_bytes: int) -> dict:
    """Return where a tensor lies; ValueError when its bytes are not those of its shape, or outside the file."""
    (start, stop), shape, dtype = entry["data_offsets"], tuple(entry["shape"]), entry["dtype"]
    if dtype in DTYPES and stop - start != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError(f"{stop - start} bytes for shape {list(shape)} of {dtype}")
    if not 0 <= start <= stop <= file_bytes - data:
        raise ValueError(f"bytes {start} to {stop} are outside the file, which was cut off")
    return {"path": path, "dtype": dtype, "shape": shape, "start": data + start}


class SafetensorsWriter:
    """Shards with an index, written in the order of the plan."""

    def __init__(self, folder: Path, plan: TensorPlan, max_shard_bytes: int):
        self.folder, self.plan = folder, plan
        self.shards = list(cut_shards(plan, max_shard_bytes))
        self.names = list(plan)
        self.file: WrittenFile | None = None
        self.files: list[WrittenFile] = []
        self.position = 0

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(shape) for shape, _ in self.plan.values())

    def file_name(self, number: int) -> str:
        """Return what transformers looks for."""
        return f"model-{number + 1:05d}-of-{len(self.shards):05d}.safetensors" if len(self.shards) > 1 else "model.safetensors"

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Write the next tensor of the plan, converted to its dtype there block by block; raises ConversionError when it is not finite."""
        shape, dtype = self.plan[name]
        assert self.names[self.position] == name and tuple(tensor.shape) == shape
        file = self.file = self.file or self.opened_shard()
        step = max(1, BLOCK_BYTES // max(1, tensor[:1].nbytes))
        for first in range(0, len(tensor), step):
            block = tensor[first : first + step].to(dtype).contiguous()
            check_finite(name, block)
            file.write(block.view(-1).view(torch.uint8).numpy())
        self.position += 1
        if name == self.shards[len(self.files)][-1]:
            if self.files:
                self.files[-1].close()  # it had a shard's time to reach the disk
            self.files.append(file)
            self.file = None

    def opened_shard(self) -> WrittenFile:
        """Return the next file, begun with its header."""
        header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name in self.shards[len(self.files)]:
            (shape, dtype), size = self.plan[name], tensor_bytes(*self.plan[name])
            header[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file = WrittenFile(self.folder / self.file_name(len(self.files)), hashed=False)
        file.write(struct.pack("<Q", len(text)) + text)
        return file

    def __enter__(self) -> "SafetensorsWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        """Bring everything to disk and write the index, where there are several shards; after a fault, only close."""
        for file in [*self.files, *([self.file] if self.file else [])]:
            file.close()
        if kind is None and len(self.shards) > 1:
            where = {name: self.file_name(number) for number, names in enumerate(self.shards) for name in names}
            size = sum(tensor_bytes(*entry) for entry in self.plan.values())
            index = {"metadata": {"total_size": size, "total_parameters": self.parameters}, "weight_map": where}
            replace_text(self.folder / INDEX, json.dumps(index, indent=2))


def cut_shards(plan: TensorPlan, max_shard_bytes: int) -> Iterator[list[str]]:
    """Yield the names of each shard; a tensor larger than a shard has one of its own."""
    names: list[str] = []
    held = 0
    for name, entry in plan.items():
        size = tensor_bytes(*entry)
        if names and held + size > max_shard_bytes:
            yield names
            names, held = [], 0
        names.append(name)
        held += size
    yield names


def tensor_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Return how many bytes a tensor takes."""
    return math.prod(shape) * dtype.itemsize


def check_finite(name: str, tensor: torch.Tensor) -> None:
    """Raise ConversionError when a number is NaN or infinite: no model computes anything with it."""
    if torch.isfinite(tensor.sum(dtype=torch.float32)):  # one pass; a sum may also overflow, so what is not finite is counted
        return
    if strays := int((~torch.isfinite(tensor)).sum()):
        raise ConversionError(
            f"{name}: {strays} of {tensor.numel()} numbers are NaN or infinite as {tensor.dtype}; the model is damaged, or its numbers are"
            " too large for this dtype"
        )
