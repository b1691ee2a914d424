"""Token files in object stores: blocks are fetched once through fsspec into a sparse file on local disk.

Reading then goes through the same pread as a local corpus. Ranks of one machine share the file; two that fetch
one block at the same time write the same bytes. Which blocks are there stands in the same file, a byte for each behind the last of them:
whoever clears the cache takes both or neither, and nobody reads the zeros of a new file for blocks of the old one.
"""

import hashlib
import os
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.redaction import with_variables

__all__ = ["BlockCache", "cache_folder", "is_remote"]

BLOCK_BYTES = 4 * 2**20
PRESENT = b"\x01"


def is_remote(prefix: str) -> bool:
    """Say whether a corpus prefix is a URL, as s3://bucket/corpora/text."""
    return "://" in prefix


def cache_folder() -> Path:
    """Return where fetched blocks are kept: $CODEMIX_CACHE, or the user's cache folder."""
    return Path(os.environ.get("CODEMIX_CACHE") or Path.home() / ".cache" / "codemix_megatron")


class BlockCache:
    """A local sparse copy of a remote file, such as a .bin; `path` is what to read after `ensure`."""

    def __init__(self, url: str, sha256: str):
        import fsspec

        self.url = url
        # The checksum in the name keeps a corpus that was prepared again from being mixed with its old blocks.
        name = hashlib.sha256(f"{url} {sha256}".encode()).hexdigest()[:24]
        self.path = cache_folder() / f"{name}.cache"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.filesystem, self.remote = fsspec.core.url_to_fs(with_variables(self.url))
        try:
            self.num_bytes = self.filesystem.size(self.remote)
        except Exception as fault:  # every store has errors of its own
            raise CorpusError(f"{self.url}: cannot be reached ({type(fault).__name__}: {fault})", exit_code=1) from fault
        self.data = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(self.data, self.num_bytes + self.num_blocks)
        self.present: set[int] = set()

    @property
    def num_blocks(self) -> int:
        """Blocks of the file, the last of which may be shorter."""
        return -(-self.num_bytes // BLOCK_BYTES)

    def check_size(self, promised: int) -> None:
        """Raise CorpusError when the file has another size than its manifest promises, as local ones are looked at."""
        if self.num_bytes != promised:
            raise CorpusError(
                f"{self.url}: {self.num_bytes} bytes, its manifest promises {promised}; copy corpus and manifest there together"
            )

    def ensure(self, start: int, count: int) -> None:
        """Make bytes [start, start + count) readable from `path`."""
        for block in range(start // BLOCK_BYTES, (start + count - 1) // BLOCK_BYTES + 1):
            if block not in self.present:
                if os.pread(self.data, 1, self.num_bytes + block) != PRESENT:
                    self.fetch(block)
                self.present.add(block)

    def fetch(self, block: int) -> None:
        """Fetch one block and mark it once it is on disk."""
        begin = block * BLOCK_BYTES
        end = min(begin + BLOCK_BYTES, self.num_bytes)
        try:
            content = self.filesystem.cat_file(self.remote, start=begin, end=end)
        except Exception as fault:  # every store has errors of its own
            raise CorpusError(
                f"{self.url}: bytes {begin} to {end} cannot be read ({type(fault).__name__}: {fault})", exit_code=1
            ) from fault
        if len(content) != end - begin:
            raise CorpusError(f"{self.url}: gave {len(content)} bytes for {begin} to {end}; it changed, or its server ignores ranges")
        os.pwrite(self.data, content, begin)
        os.fdatasync(self.data)
        os.pwrite(self.data, PRESENT, self.num_bytes + block)

    def __del__(self):
        if hasattr(self, "data"):  # opening may have failed
            os.close(self.data)
