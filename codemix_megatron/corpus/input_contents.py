"""What was read of large inputs, by a hash of every byte, and whether the inputs still hold it.

`input_identity` looks at 16 samples of a large file. Here a hash of all of it is taken while its parts are read. Another
command first takes a quick look: size, times of the last write and of the last change of any kind, inode. Only where one
of these differs, or where it is asked to, it reads the bytes and compares hashes.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.corpus.input_identity import HASHED_WHOLE_BYTES, changed_while_read, check_unchanged
from codemix_megatron.corpus.parts import FinishedPart, PartsFolder
from codemix_megatron.readers.documents import InputFile, unreadable
from codemix_megatron.readers.read_ranges import RangeHash, hash_of_range
from codemix_megatron.readers.streams import is_url
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["InputReading", "finished_parts", "inputs_fault", "read_inputs"]

OF_NONE: tuple[int, ...] = ()


def quick_look(path) -> tuple[int, ...]:
    """Return what changes with a file: size, time of the last write, time of the last change of any kind, inode; nothing of no file."""
    try:
        status = os.stat(path)
    except OSError:
        return OF_NONE
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_large(file: InputFile) -> bool:
    """Say whether the identity of a file holds less than all of its content: it lies on this machine and is large."""
    return file.path is not None and not is_url(file.path) and file.whole_bytes > HASHED_WHOLE_BYTES and not Path(file.path).is_dir()


class InputReading:
    """One input while it is read."""

    def __init__(self, file: InputFile):
        self.file = file
        self.hashed = RangeHash(file.first_byte, file.first_byte + file.num_bytes) if is_large(file) else None
        self.look = quick_look(file.path) if self.hashed else OF_NONE

    def finish(self) -> list | None:
        """Return [hash, quick look] of a large input; raises CorpusError where it was written to meanwhile."""
        if self.hashed is None:
            return None
        try:
            digest = self.hashed.complete(self.file.path)
        except OSError as fault:
            raise unreadable(self.file.path, fault) from None
        if quick_look(self.file.path) != self.look:
            check_unchanged([self.file])
            raise changed_while_read(self.file.path, "it was written to meanwhile")
        return [digest, list(self.look)]


@dataclass(frozen=True)
class ReadInput:
    """What was read of one input: the hash of its bytes, and the quick look at the time."""

    file: InputFile
    digest: str
    look: tuple[int, ...]

    def is_as_it_was(self, *, thorough: bool) -> bool:
        """Say whether the file still holds the bytes that were read; a thorough look reads them whatever a quick one says."""
        if not thorough and quick_look(self.file.path) == self.look:
            return True
        try:
            return hash_of_range(self.file.path, self.file.first_byte, self.file.first_byte + self.file.num_bytes) == self.digest
        except OSError:
            return False


def finished_parts(
    folder: PartsFolder, parts: Sequence[Sequence[InputFile]], numbers: Iterable[int], *, thorough: bool = False
) -> dict[int, FinishedPart]:
    """Return the parts that are done and whose inputs still hold what was read; `folder.faults` says why others are not.

    Of a file that holds something else now, only parts are left that were read since: the end of a table says what its rows are.
    """
    done = {number: part for number in numbers if (part := folder.finished(number)) is not None}
    read = {number: read_in_part(part.inputs, parts[number]) for number, part in done.items()}
    changed: dict[str, tuple[int, ...]] = {}  # path -> quick look of now
    for one in (one for several in read.values() for one in several):
        if str(one.file.path) not in changed and not one.is_as_it_was(thorough=thorough):
            changed[str(one.file.path)] = quick_look(one.file.path)
    for number, several in read.items() if changed else ():
        stale = [path for one in several if (path := str(one.file.path)) in changed and (thorough or one.look != changed[path])]
        if stale:
            folder.faults[number] = f"{stale[0]} has changed since it was read"
            del done[number]
    return done


def read_in_part(told: Sequence, files: Sequence[InputFile]) -> list[ReadInput]:
    """Return what was read of the large inputs among some files."""
    return [ReadInput(file, one[0], tuple(one[1])) for file, one in zip(files, told, strict=True) if one is not None]


def read_inputs(parts: Iterable[FinishedPart]) -> list[list]:
    """Return [hash, quick look] of what was read of each large input of a corpus, for its manifest."""
    return [one for part in parts for one in part.inputs if one is not None]


def inputs_fault(manifest: CorpusManifest, parts: Sequence[Sequence[InputFile]], *, thorough: bool) -> str:
    """Return which input of a corpus no longer holds what was read of it, or nothing."""
    files = [file for part in parts for file in part if is_large(file)]
    if len(files) != len(manifest.inputs_read):
        return "what was read of its documents was not noted"
    for one in read_in_part(manifest.inputs_read, files):
        if not one.is_as_it_was(thorough=thorough):
            return f"{one.file.path} holds something else than was read, though its size and time are the same"
    return ""
