"""Safetensors, one tensor at a time in both directions, so that a model never has to fit into memory.

The library `safetensors` writes a whole file from tensors in memory and reads by mapping the file, whose pages then
count as this process's. The format: length of the header as u64, the header as JSON, the tensors one after the other.
"""

import json
import math
import struct
from pathlib import Path

import torch

from codemix_megatron.checkpoint.written_file import WrittenFile
from codemix_megatron.errors import ConversionError
from codemix_megatron.records.atomic import replace_text

__all__ = ["SafetensorsFolder", "SafetensorsWriter", "TensorPlan"]

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LARGEST_HEADER = 100_000_000  # as in the library
BLOCK_BYTES = 2**25
INDEX = "model.safetensors.index.json"
TensorPlan = dict[str, tuple[int, ...]]


class SafetensorsFolder:
    """The tensors of a Hugging Face folder by name; nothing but safetensors is read."""

    def __init__(self, folder: Path):
        self.folder = folder
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ConversionError(f"{folder}: holds no *.safetensors; pickled weights are not read, save them as safetensors")
        self.places: dict[str, dict] = {}
        for path in files:
            for name, entry in read_header(path).items():
                if name in self.places:
                    raise ConversionError(f"{path}: {name} is also in {self.places[name]['path'].name}")
                self.places[name] = entry

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.places[name]["shape"]

    def dtype(self, name: str) -> torch.dtype | None:
        """Return a tensor's dtype; None when it is none that weights are kept in here."""
        return DTYPES.get(self.places[name]["dtype"])

    def read(self, name: str, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return a tensor, or its rows from `first` to before `last`."""
        place = self.places[name]
        rows = slice(first, last).indices(place["shape"][0])
        shape = (rows[1] - rows[0], *place["shape"][1:])
        tensor = torch.empty(shape, dtype=DTYPES[place["dtype"]])
        row_bytes = math.prod(shape[1:]) * tensor.itemsize
        with open(place["path"], "rb") as handle:
            handle.seek(place["start"] + rows[0] * row_bytes)
            found = handle.readinto(tensor.view(-1).view(torch.uint8).numpy().data)
        if found != tensor.nbytes:
            raise ConversionError(f"{place['path']}: ends inside {name}; it was cut off")
        return tensor


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

    def __init__(self, folder: Path, plan: TensorPlan, dtype: torch.dtype, max_shard_bytes: int):
        self.folder, self.dtype, self.plan = folder, dtype, plan
        self.shards = list(cut_shards(plan, dtype, max_shard_bytes))
        self.names = list(plan)
        self.file: WrittenFile | None = None
        self.files: list[WrittenFile] = []
        self.position = 0

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(map(math.prod, self.plan.values()))

    def file_name(self, number: int) -> str:
        """Return what transformers looks for."""
        return f"model-{number + 1:05d}-of-{len(self.shards):05d}.safetensors" if len(self.shards) > 1 else "model.safetensors"

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Write the next tensor of the plan, converted to the dtype of the files block by block."""
        assert self.names[self.position] == name and tuple(tensor.shape) == self.plan[name]
        file = self.file = self.file or self.opened_shard()
        step = max(1, BLOCK_BYTES // max(1, tensor[:1].nbytes))
        for first in range(0, len(tensor), step):
            block = tensor[first : first + step].to(self.dtype).contiguous()
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
            size = math.prod(self.plan[name]) * self.dtype.itemsize
            header[name] = {"dtype": NAMES[self.dtype], "shape": self.plan[name], "data_offsets": [offset, offset + size]}
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
            size = self.parameters * self.dtype.itemsize
            index = {"metadata": {"total_size": size, "total_parameters": self.parameters}, "weight_map": where}
            replace_text(self.folder / INDEX, json.dumps(index, indent=2))


def cut_shards(plan: TensorPlan, dtype: torch.dtype, max_shard_bytes: int):
    """Yield the names of each shard; a tensor larger than a shard has one of its own."""
    names: list[str] = []
    held = 0
    for name, shape in plan.items():
        size = math.prod(shape) * dtype.itemsize
        if names and held + size > max_shard_bytes:
            yield names
            names, held = [], 0
        names.append(name)
        held += size
    yield names
