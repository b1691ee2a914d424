"""What the inputs of a corpus are, by content, so that nothing is taken for what it is not; and whether they still are that.

A file's identity is its name, size, stamp (the time it was changed, a commit, a store's mark), how it is read, and a hash of
its content: all of a small file, 16 samples of a large one (`input_contents` sees to the rest). The order of the inputs counts, for it decides which part
holds what and which of two equal documents is the first.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import xxhash

from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.filters.plugin_filters import filter_packages
from codemix_megatron.readers.documents import InputFile, unreadable
from codemix_megatron.readers.git_histories import git_input
from codemix_megatron.readers.inputs import READING_VERSION
from codemix_megatron.readers.plugin_readers import reader_packages
from codemix_megatron.readers.remote_files import remote_files
from codemix_megatron.readers.repositories import TREE_STAMP, tree_stamp
from codemix_megatron.readers.streams import is_url, open_input
from codemix_megatron.recipe.schema import CorpusSpec, as_plain
from codemix_megatron.redaction import with_variables

__all__ = ["HASHED_WHOLE_BYTES", "changed_while_read", "check_unchanged", "fingerprint_inputs"]

HASHED_WHOLE_BYTES = 1 << 20
NUM_SAMPLES, SAMPLE_BYTES = 16, 16 << 10
NOT_READING = ("num_bytes", "span")  # arguments of readers that steer progress bars and parts, not what is read


def fingerprint_inputs(spec: CorpusSpec, inputs: Sequence[InputFile]) -> str:
    """Return a hash of what is read, in which order and how; the folder the files lie in does not count."""
    keys = (spec.text_key, spec.language_key, spec.licence_key, spec.origin_key, spec.text_documents)
    how = json.dumps([READING_VERSION, spec.kind, keys, filter_settings(spec), *packages_used(spec)], sort_keys=True)
    digest = hashlib.sha256(how.encode())
    for file in inputs:
        digest.update(f"\0{input_identity(file)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def filter_settings(spec: CorpusSpec) -> dict | None:
    """Return the filters of a corpus as they count; those of plugins only where there are any."""
    settings = as_plain(spec.filters)
    return settings and {key: value for key, value in settings.items() if key != "plugins" or value}


def packages_used(spec: CorpusSpec) -> list[str]:
    """Return the packages, with versions, whose plugins read or filter this corpus."""
    return sorted({*reader_packages(spec.documents), *filter_packages(spec.filters)})


def input_identity(file: InputFile) -> str:
    """Return one line of everything that decides the documents of a file."""
    is_history = not is_url(file.path) and file.path is not None and Path(file.path).is_dir()
    size = "" if is_history else file.num_bytes  # of a history the commit is enough; its objects may be packed again
    content = "" if is_history or (is_url(file.path) and file.stamp) else content_hash(file.path, file.num_bytes)
    return "\0".join(map(str, (file.name, size, file.stamp, describe_reader(file.reader), content)))


def describe_reader(reader) -> str:
    """Return the name of a reader and the arguments that decide what it yields, such as the licence of a folder."""
    arguments: dict[str, object] = {}
    while isinstance(reader, functools.partial):
        arguments = {**reader.keywords, **arguments}
        reader = reader.func
    listed = sorted((name, repr(value)) for name, value in arguments.items() if name not in NOT_READING)
    return f"{getattr(reader, '__name__', reader)}{listed}"


def content_hash(path, num_bytes: int) -> str:
    """Return a hash of a file's content: of all of it, or of samples all over it, its beginning and its end among them."""
    digest = xxhash.xxh3_128()
    try:
        with open_input(path) as stream:
            for start in sample_offsets(num_bytes):
                stream.seek(start)
                digest.update(stream.read(SAMPLE_BYTES if num_bytes > HASHED_WHOLE_BYTES else num_bytes))
    except OSError as fault:
        raise unreadable(path, fault) from None
    return digest.hexdigest()


def sample_offsets(num_bytes: int) -> Iterable[int]:
    """Return where the hashed stretches of a file begin."""
    if num_bytes <= HASHED_WHOLE_BYTES:
        return [0]
    return ((num_bytes - SAMPLE_BYTES) * number // (NUM_SAMPLES - 1) for number in range(NUM_SAMPLES))


def check_unchanged(files: Iterable[InputFile]) -> None:
    """Look at the inputs of a part again, after it was read; raises CorpusError for one that is not what it was when it was found."""
    for file in {str(file.path): file for file in files if file.path is not None}.values():
        found, expected = look_again(file), (file.whole_bytes, file.stamp)
        if found != expected:
            sizes = f"{found[0]:,} bytes, {expected[0]:,} before" if found[0] != expected[0] else "it was written to meanwhile"
            raise changed_while_read(file.path, sizes)


def changed_while_read(path, how: str) -> CorpusError:
    """Return the error for an input somebody wrote to while it was read."""
    return CorpusError(
        f"{path}: changed while it was read ({how}), so nobody knows which text was taken; nothing of this part is kept."
        " Run the same command again when nobody writes to the inputs",
        exit_code=MACHINE_FAULT,
    )


def look_again(file: InputFile) -> tuple[int, str]:
    """Return size and stamp of an input as they are now; (-1, "") where it is gone."""
    try:
        if is_url(file.path):
            import fsspec

            fsspec.core.url_to_fs(with_variables(str(file.path)))[0].invalidate_cache()
            (found,), _ = remote_files(str(file.path))
            return found.num_bytes, found.stamp
        path = Path(file.path)
        if file.stamp.startswith(TREE_STAMP):
            return file.whole_bytes, tree_stamp(path, file.stamp.split(":")[1])
        if path.is_dir():
            return file.whole_bytes, git_input(path, None).stamp
        status = path.stat()
        is_time = file.stamp.isdecimal()
        return status.st_size, str(status.st_mtime_ns) if is_time else file.stamp
    except OSError:
        return -1, ""
