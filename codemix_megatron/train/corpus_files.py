"""Whether the files of a run's corpora hold what their manifests say. No torch.

A file that was changed in place has the size it had, and training would read on in it. Reading all of it again at every start takes
too long where it is terabytes, so a file is compared with its checksum once, and again when anything of its inode says that it was
touched: its change time, which no program can set, its size or its number. One that has not been touched since the manifest was
written, after it, is taken as prepared.
"""

import hashlib
import os
import time
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import read_json, write_json
from codemix_megatron.records.manifest import CorpusManifest, manifest_path
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["CorpusFilesCheck", "check_corpus_files"]

BLOCK_BYTES = 2**24


class CorpusFilesCheck:
    """Compares files of corpora with their checksums, in slices of time, and remembers in the run folder which are good."""

    def __init__(self, run: RunFolder, manifests: dict[str, CorpusManifest]):
        self.run, self.known = run, read_known(run)
        self.faults: list[str] = []
        self.waiting: list[tuple[str, Path, str]] = []
        for name, manifest in manifests.items():
            if "://" not in manifest.prefix:
                checksums = {".bin": manifest.bin_sha256, ".idx": manifest.idx_sha256}
                checksums |= {".loss_mask.bin": manifest.loss_mask_sha256} if manifest.loss_mask_sha256 else {}
                for suffix, sha256 in checksums.items():
                    self.look_at(f"{name}{suffix}", Path(manifest.prefix + suffix), sha256, manifest_path(manifest.prefix))
        self.digest, self.offset = hashlib.sha256(), 0

    def look_at(self, name: str, path: Path, sha256: str, manifest: Path) -> None:
        """Take a file as it is, or have it read."""
        known, now = self.known.get(name), facts_of(path, sha256)
        if known == now or not sha256:
            return
        if known is None and path.stat().st_ctime_ns <= manifest.stat().st_ctime_ns:
            self.known[name] = now
        else:
            self.waiting.append((name, path, sha256))

    @property
    def bytes_left(self) -> int:
        """Bytes that have to be read."""
        return sum(path.stat().st_size for _, path, _ in self.waiting) - self.offset

    def go_on(self, seconds: float) -> bool:
        """Read on for about so long; return True when all is done and written down. Raises CorpusError naming every file that differs."""
        limit = time.monotonic() + seconds
        while self.waiting and time.monotonic() < limit:
            self.read_block()
        if self.waiting:
            return False
        if self.faults:
            raise CorpusError("\n".join(self.faults))
        if self.run.path.is_dir() and self.known != read_known(self.run):  # a start that is refused yet makes no folder
            with self.run.naming_refusals():
                write_json(self.run.corpora, self.known)
        return True

    def read_block(self) -> None:
        """Read the next part of the first file that waits; at its end compare it."""
        name, path, sha256 = self.waiting[0]
        before = facts_of(path, sha256)
        with open(path, "rb") as handle:
            handle.seek(self.offset)
            block = handle.read(BLOCK_BYTES)
        self.digest.update(block)
        self.offset += len(block)
        if block and self.offset < before["bytes"]:
            return
        if self.digest.hexdigest() == sha256:
            self.known[name] = before
        else:
            self.faults.append(
                f"{path}: changed since it was prepared (sha256 {self.digest.hexdigest()[:12]}, its manifest says {sha256[:12]}); put it back,"
                f" or prepare it again and begin in another --folder; `codemix verify-corpus {path.with_suffix('')}` names where"
            )
        self.waiting.pop(0)
        self.digest, self.offset = hashlib.sha256(), 0


def facts_of(path: Path, sha256: str) -> dict:
    """Return what a file's inode says of its contents, and the checksum they should have."""
    there = os.stat(path)
    return {
        "sha256": sha256,
        "bytes": there.st_size,
        "inode": there.st_ino,
        "changed_ns": there.st_ctime_ns,
        "modified_ns": there.st_mtime_ns,
    }


def read_known(run: RunFolder) -> dict:
    """Return name of a file -> facts of when it was found good."""
    try:
        known = read_json(run.corpora)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def check_corpus_files(run: RunFolder, manifests: dict[str, CorpusManifest], say=lambda text: None) -> None:
    """Compare all that has to be compared, at once. Raises CorpusError."""
    check = CorpusFilesCheck(run, manifests)
    if check.bytes_left > 2**30:
        say(
            f"comparing {check.bytes_left / 2**30:.1f} GiB of corpora with their checksums, for they were touched since they were prepared\n"
        )
    while not check.go_on(60):
        pass
