"""The work on a corpus cut into parts, each done by any process at any time, and the folder their results wait in."""

import contextlib
import errno
import glob
import hashlib
import itertools
import json
import os
import shutil
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.readers.documents import InputFile

try:
    import fcntl
except ImportError:  # not on Windows; then two commands at once are not noticed
    fcntl = None

__all__ = ["RECORD", "FinishedPart", "PartsFolder", "PartWriter", "Shard", "cut_into_parts"]

PART_BYTES = 32 << 20
MOST_PARTS = 4096  # files in one folder: four per part
FORMAT_VERSION = 2  # count up when the files of a part would differ for the same inputs

# What is kept of each document that was tokenized; `group` is its place in the part's table of (kind, language, licence).
RECORD = np.dtype([("digest", "V16"), ("num_bytes", "<u4"), ("num_tokens", "<u4"), ("group", "<u4")])


def cut_into_parts(inputs: list[InputFile]) -> list[tuple[InputFile, ...]]:
    """Return the inputs as parts of about equal bytes: large files divided, small ones together.

    Depends on the inputs alone, so that any number of processes and shards does the same parts.
    """
    part_bytes = max(PART_BYTES, sum(file.num_bytes for file in inputs) // MOST_PARTS)
    parts, current, size = [], [], 0
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
    """What the done-file of a part says: sizes of its files, and what was left out."""

    num_documents: int = 0
    num_tokens: int = 0
    num_bytes: int = 0
    groups: list = field(default_factory=list)  # (kind, language, licence)
    dropped: dict = field(default_factory=dict)  # see tally.Dropped
    rewritten: dict[str, int] = field(default_factory=dict)


class PartsFolder:
    """`.NAME.parts-KEY` beside a corpus; another KEY for other documents, tokenizer or filters, so that nothing stale is taken.

    Files of part 7: 00007.tokens (ids), .records (RECORD per document), .identities (a line per document),
    .signatures (where near duplicates are looked for), and .done, written last.
    """

    def __init__(self, prefix, key: str, dtype):
        self.prefix, self.dtype = Path(prefix), np.dtype(dtype)
        digest = hashlib.sha256(f"{FORMAT_VERSION}\0{self.dtype}\0{key}".encode()).hexdigest()[:12]
        self.path = self.prefix.with_name(f".{self.prefix.name}.parts-{digest}")
        self.lock = None

    def __getstate__(self):
        return {**self.__dict__, "lock": None}  # workers write under the lock of the process that started them

    def file(self, number: int, what: str) -> Path:
        """Return the path of one file of a part."""
        return self.path / f"{number:05}.{what}"

    def open(self, *, alone: bool) -> None:
        """Make the folder and hold it: alone, or beside other shards."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock = open(self.path / "lock", "ab")  # noqa: SIM115 - held until `close`
        if fcntl is None:
            return
        try:
            fcntl.flock(self.lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            raise CorpusError(
                f"{self.prefix}.bin: another command is writing it; wait for it or give another prefix", exit_code=MACHINE_FAULT
            ) from None
        except OSError as fault:
            if fault.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # file systems without locks
                raise
        if alone:
            self.sweep()

    @contextlib.contextmanager
    def held(self, *, alone: bool):
        """Hold the folder while the block runs."""
        self.open(alone=alone)
        try:
            yield
        finally:
            self.close()

    def sweep(self) -> None:
        """Remove what killed processes left of unfinished parts; only for who holds the folder alone."""
        for path in self.path.glob("*.*.*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder; one without a finished part is removed."""
        if self.lock is None:
            return
        if self.path.is_dir() and not any(self.path.glob("*.done")):
            shutil.rmtree(self.path, ignore_errors=True)
        self.lock.close()
        self.lock = None

    def siblings(self) -> list[Path]:
        """Return the folders of this corpus that are there, those of other settings too."""
        return list(self.prefix.parent.glob(f".{glob.escape(self.prefix.name)}.parts-*"))

    def remove_all(self) -> None:
        """Remove this folder and those of earlier settings, when the corpus is published."""
        for folder in self.siblings():
            shutil.rmtree(folder, ignore_errors=True)

    def finished(self, number: int) -> FinishedPart | None:
        """Return what a part holds, or None when it is not done or its files are not as large as promised."""
        try:
            part = FinishedPart(**json.loads(self.file(number, "done").read_bytes()))
            sizes = [self.file(number, what).stat().st_size for what in ("tokens", "records")]
        except (OSError, ValueError, TypeError):
            return None
        return part if sizes == [part.num_tokens * self.dtype.itemsize, part.num_documents * RECORD.itemsize] else None

    def unfinished(self, num_parts: int) -> list[int]:
        """Return the numbers of the parts that are not done."""
        return [number for number in range(num_parts) if self.finished(number) is None]

    def records(self, number: int) -> np.ndarray:
        """Return the records of a finished part."""
        return np.fromfile(self.file(number, "records"), dtype=RECORD)

    def identity(self, number: int, row: int, files: tuple[InputFile, ...]) -> str:
        """Return where one document of a finished part came from; `files` are those of the part."""
        with open(self.file(number, "identities"), encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            index, _, rest = next(itertools.islice(lines, row, None)).rstrip("\n").partition("\t")
        return rest[1:] if rest.startswith("\t") else f"{files[int(index)].path}{rest}"


class PartWriter:
    """Writes the files of one part under names of this process alone, and gives them their names when the part is whole."""

    def __init__(self, folder: PartsFolder, number: int):
        self.folder, self.number = folder, number
        self.mine = f"{socket.gethostname()}-{os.getpid()}"
        self.handles = {}

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
        self.handles[what].write(data)

    def finish(self, part: FinishedPart) -> None:
        """Flush everything to disk, rename, and write the done-file."""
        for what in ("tokens", "records", "identities"):
            self.write(what, b"")
        self.write("done", json.dumps(asdict(part)).encode())  # renamed last, for it was opened last
        for handle in self.handles.values():
            handle.flush()
            os.fsync(handle.fileno())
            handle.close()
        for what in self.handles:
            os.replace(self.partial(what), self.folder.file(self.number, what))
        self.handles = {}
