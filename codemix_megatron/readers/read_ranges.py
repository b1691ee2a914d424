"""The hash of what a reader reads of a file, taken as the bytes pass by, so that it costs no second look at them."""

import io

import xxhash

__all__ = ["HashedFile", "RangeHash", "hash_of_range"]

READ_AT_ONCE = 4 << 20


class RangeHash:
    """The hash (XXH3, 128 bits) of the bytes of a file from `begin` to `end`."""

    def __init__(self, begin: int, end: int):
        self.begin, self.next, self.end = begin, begin, end
        self.digest = xxhash.xxh3_128()

    def take(self, position: int, data: memoryview) -> None:
        """Take bytes read at a position, as far as they are the next in order; others are left to `complete`."""
        first, last = self.next - position, min(len(data), self.end - position)
        if 0 <= first < last:
            self.digest.update(data[first:last])
            self.next = position + last

    def complete(self, path) -> str:
        """Read what no reader has read in order, such as the columns of a table, and return the hash of the whole range."""
        if self.next < self.end:
            with open(path, "rb", buffering=0) as stream:
                stream.seek(self.next)
                while self.next < self.end and (block := stream.read(min(READ_AT_ONCE, self.end - self.next))):
                    self.take(self.next, memoryview(block))
        return self.digest.hexdigest()


class HashedFile(io.FileIO):
    """A file of this machine that shows every byte it gives to a RangeHash."""

    def __init__(self, path, taken: RangeHash):
        super().__init__(path, "rb")
        self.taken = taken

    def readinto(self, buffer, /) -> int:
        """Fill a buffer."""
        position = self.tell()
        size = super().readinto(buffer)
        self.taken.take(position, memoryview(buffer)[:size])
        return size

    def readall(self) -> bytes:
        """Return the rest."""
        position = self.tell()
        data = super().readall()
        self.taken.take(position, memoryview(data))
        return data


def hash_of_range(path, begin: int, end: int) -> str:
    """Return the hash of some bytes of a file as it is now."""
    return RangeHash(begin, end).complete(path)
