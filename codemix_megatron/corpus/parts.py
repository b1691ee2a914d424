"""The work on a corpus cut into parts, each done by any process at any time, and the folder their results wait in."""

import contextlib
import glob
import hashlib
import itertools
import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import xxhash

from codemix_megatron.corpus.prefix_lock import PrefixLock
from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import InputFile

__all__ = ["RECORD", "FinishedPart", "PartsFolder", "PartWriter", "Shard", "cut_into_parts"]

PART_BYTES = 32 << 20
MOST_PARTS = 4096  # files in one folder: four per part
FORMAT_VERSION = 5  # count up when the files of a part would differ for the same inputs

CHECKED_AT_ONCE = 4 << 20
FILES = ("done", "tokens", "records", "identities", "signatures", "damaged", "loss_mask")
# What is kept of each document that was tokenized; `group` is its index in the part's table of (kind, language, licence).
RECORD = np.dtype([("digest", "V16"), ("num_bytes", "<u4"), ("num_tokens", "<u4"), ("group", "<u4")])


def cut_into_parts(inputs: list[InputFile]) -> list[tuple[InputFile, ...]]:
    """Return the inputs as parts of about equal bytes: large files divided, small ones together.

    Depends on the inputs alone, so that any number of processes and shards does the same parts.
    """
    part_bytes = max(PART_BYTES, sum(file.num_bytes for file in inputs) // MOST_PARTS)
    parts: list[tuple[InputFile, ...]] = []
    current: list[InputFile] = []
    size = 0
    for file in inputs:
        for piece in file.divide(part_bytes):
            if current and size + piece.num_bytes > part_bytes:
                parts.append(tuple(current))
                current, size = [], 0
            current.append(piece)
            size += piece.num_bytes
    return [*parts, tuple(current)] if current else parts


@dataclass(frozen=True)
class Shard:
    """The parts one task of several does: every `count`-th, from `index` on."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `i/n`, i from 0 to n - 1."""
        index, _, count = text.partition("/")
        try:
            shard = cls(int(index), int(count))
        except ValueError:
            shard = cls(0, 0)
        if not 0 <= shard.index < shard.count:
            raise CorpusError(f"--shard: found {text}, allowed are 0/n to n-1/n, such as $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT")
        return shard

    def numbers(self, num_parts: int) -> range:
        """Return the numbers of its parts."""
        return range(self.index, num_parts, self.count)


@dataclass
class FinishedPart:
    """What the done-file of a part says: sizes of its files, which encoder made its ids, and what was left out."""

    num_documents: int = 0
    num_tokens: int = 0
    num_bytes: int = 0
    groups: list = field(default_factory=list)  # (kind, language, licence)
    dropped: dict = field(default_factory=dict)  # see tally.Dropped
    rewritten: dict[str, int] = field(default_factory=dict)
    redactions: dict[str, dict] = field(default_factory=dict)  # see redactions.Redactions
    encoder: dict = field(default_factory=dict)  # see records.manifest.EncoderMetadata
    unknown: dict[str, int] = field(default_factory=lambda: {"documents": 0, "lost": 0})  # see unknown_text
    unknown_places: list[str] = field(default_factory=list)
    inputs: list = field(default_factory=list)  # of each file [hash of what was read, quick look], None of a small one; see input_contents


class PartsFolder:
    """`.NAME.parts-KEY` beside a corpus; another KEY for other documents, tokenizer, filters or libraries, so that nothing stale is taken.

    Files of part 7: 00007.tokens (ids), .records (RECORD per document), .identities (a line per document),
    .signatures (where near duplicates are looked for), .loss_mask (of conversations, a byte for each id), and .done, written last,
    with the size and the checksum of each.
    """

    def __init__(self, prefix, key: str, dtype):
        self.prefix, self.dtype = Path(prefix), np.dtype(dtype)
        self.key = hashlib.sha256(f"{FORMAT_VERSION}\0{self.dtype}\0{key}".encode()).hexdigest()
        self.path = self.prefix.with_name(f".{self.prefix.name}.parts-{self.key[:12]}")
        self.lock = PrefixLock(prefix)
        self.checked: dict[int, tuple] = {}  # part -> (times and sizes of its files, what it holds)
        self.faults: dict[int, str] = {}  # part -> why it counts as not done although there is a done-file

    def __getstate__(self):
        return {**self.__dict__, "checked": {}}

    def file(self, number: int, what: str) -> Path:
        """Return the path of one file of a part."""
        return self.path / f"{number:05}.{what}"

    @contextlib.contextmanager
    def held(self, *, alone: bool):
        """Hold everything under the prefix while the block runs: alone, or beside other shards."""
        self.lock.acquire(alone=alone)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if alone:
                self.sweep()
            yield
        finally:
            self.close()

    def sweep(self) -> None:
        """Remove what killed processes left of unfinished parts; only for who holds the prefix alone."""
        for path in self.path.glob("*.*.*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the prefix; a folder without a finished part is removed, unless another shard is at work in it."""
        if self.path.is_dir() and not any(self.path.glob("*.done")) and self.lock.become_alone():
            shutil.rmtree(self.path, ignore_errors=True)
        self.lock.release()

    def siblings(self) -> list[Path]:
        """Return the folders of this corpus that are there, those of other settings too."""
        return list(self.prefix.parent.glob(f".{glob.escape(self.prefix.name)}.parts-*"))

    def remove_all(self) -> None:
        """Remove this folder and those of earlier settings, when the corpus is published."""
        for folder in self.siblings():
            shutil.rmtree(folder, ignore_errors=True)

    def finished(self, number: int) -> FinishedPart | None:
        """Return what a part holds, or None when it is not done, or any byte of its files is not as it was written."""
        state = self.state(number)
        known = self.checked.get(number)
        if known is None or known[0] != state:
            self.faults.pop(number, None)
            known = self.checked[number] = (state, self.check(number))
        return known[1]

    def state(self, number: int) -> list:
        """Return size and time of each file of a part, which say whether it has to be read again."""
        found = []
        for what in FILES:
            with contextlib.suppress(OSError):
                status = self.file(number, what).stat()
                found.append((what, status.st_size, status.st_mtime_ns, status.st_ino))
        return found

    def check(self, number: int) -> FinishedPart | None:
        """Read the files of a part and compare them with its done-file."""
        try:
            data = self.file(number, "done").read_bytes()
        except OSError:
            return None
        try:
            told = json.loads(data)
            part, files = FinishedPart(**told["part"]), told["files"]
            is_ours = (told["key"], told["number"], told["checksum"]) == (self.key, number, done_checksum(told))
        except (ValueError, TypeError, KeyError):
            is_ours = False
        if not is_ours:
            self.faults[number] = f"{self.file(number, 'done').name} is damaged"
            return None
        wrong = next((what for what, expected in files.items() if size_and_checksum(self.file(number, what)) != expected), None)
        if wrong is not None:
            self.faults[number] = f"{self.file(number, wrong).name} is damaged"
        return part if wrong is None else None

    def records(self, number: int) -> np.ndarray:
        """Return the records of a finished part."""
        return np.fromfile(self.file(number, "records"), dtype=RECORD)

    def identity(self, number: int, row: int, files: tuple[InputFile, ...]) -> str:
        """Return where one document of a finished part came from; `files` are those of the part."""
        return next(itertools.islice(self.identities(number, files), row, None))[0]

    def identities(self, number: int, files: tuple[InputFile, ...]) -> Iterator[tuple[str, str]]:
        """Yield (location, origin) of each document of a finished part; an origin nobody knows is empty."""
        with open(self.file(number, "identities"), encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            for line in lines:
                told, _, origin = line.rstrip("\n").rpartition("\t")
                index, _, rest = told.partition("\t")
                yield rest[1:] if rest.startswith("\t") else f"{files[int(index)].path}{rest}", origin


def size_and_checksum(path: Path) -> list | None:
    """Return [bytes, hash] of a file, None where it cannot be read."""
    digest, size = xxhash.xxh3_128(), 0
    try:
        with open(path, "rb", buffering=0) as handle:
            while block := handle.read(CHECKED_AT_ONCE):
                digest.update(block)
                size += len(block)
    except OSError:
        return None
    return [size, digest.hexdigest()]


def done_checksum(told: dict) -> str:
    """Return the checksum of everything else a done-file says."""
    rest = {name: value for name, value in told.items() if name != "checksum"}
    return xxhash.xxh3_128_hexdigest(json.dumps(rest, sort_keys=True).encode())


class PartWriter:
    """Writes the files of one part under names of this process alone, and gives them their names when the part is complete."""

    def __init__(self, folder: PartsFolder, number: int):
        self.folder, self.number = folder, number
        self.mine = f"{socket.gethostname()}-{os.getpid()}"
        self.handles: dict[str, IO[bytes]] = {}
        self.written: dict[str, list] = {}  # what -> [bytes, running hash]

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *_) -> None:
        for what, handle in self.handles.items():
            with contextlib.suppress(OSError):  # a full disk refuses the last buffer once more
                handle.close()
            self.partial(what).unlink(missing_ok=True)

    def partial(self, what: str) -> Path:
        """Return the name a file has while it is being written."""
        return self.folder.file(self.number, f"{what}.{self.mine}")

    def write(self, what: str, data) -> None:
        """Append to one file of the part."""
        if what not in self.handles:
            self.handles[what] = open(self.partial(what), "wb", buffering=1 << 20)  # noqa: SIM115 - closed with the writer
            self.written[what] = [0, xxhash.xxh3_128()]
        view: bytes | memoryview = data.view(np.uint8).reshape(-1).data if isinstance(data, np.ndarray) else data
        self.handles[what].write(view)
        self.written[what][0] += len(view)
        self.written[what][1].update(view)

    def finish(self, part: FinishedPart) -> None:
        """Flush everything to disk, rename, and write the done-file."""
        for what in ("tokens", "records", "identities"):
            self.write(what, b"")
        files = {what: [size, digest.hexdigest()] for what, (size, digest) in self.written.items()}
        told = json.loads(json.dumps({"key": self.folder.key, "number": self.number, "files": files, "part": asdict(part)}))
        self.write("done", json.dumps({**told, "checksum": done_checksum(told)}).encode())  # renamed last, for it was opened last
        for handle in self.handles.values():
            handle.flush()
            os.fsync(handle.fileno())
            handle.close()
        self.folder.file(self.number, "done").unlink(missing_ok=True)  # of a part that was damaged
        for what in self.handles:
            os.replace(self.partial(what), self.folder.file(self.number, what))
        self.handles = {}
