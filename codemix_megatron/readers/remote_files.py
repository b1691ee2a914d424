"""Files behind URLs, through fsspec: found by path, glob or folder, and identified by what their store knows of them."""

from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.readers.streams import without_query
from codemix_megatron.redaction import with_variables

__all__ = ["FoundFile", "remote_files"]

# What stores call the mark of a file's content or the time it was written, the most telling first.
STAMPS = ("ETag", "etag", "md5Hash", "md5", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class FoundFile:
    """A file before its reader is known; `name` does not depend on where the data lie."""

    path: Path | str
    name: str
    num_bytes: int
    stamp: str


def remote_files(url: str) -> tuple[list[FoundFile], bool]:
    """Return (files in a stable order, whether the URL is a folder); raises CorpusError when nothing is there."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(with_variables(url))
        if any(sign in path for sign in "*?["):
            infos, top, is_folder = list(filesystem.glob(path, detail=True).values()), None, False
        elif filesystem.isdir(path):
            infos, top, is_folder = list(filesystem.find(path, detail=True).values()), path.rstrip("/") + "/", True
        else:
            infos, top, is_folder = [filesystem.info(path)], None, False
    except CorpusError:
        raise
    except FileNotFoundError:
        raise CorpusError(f"{url}: nothing is there") from None
    except (ImportError, ValueError) as fault:
        raise CorpusError(f"{url}: {fault}") from None
    except Exception as fault:  # every store has errors of its own
        raise CorpusError(f"{url}: cannot be reached ({type(fault).__name__}: {fault})", exit_code=MACHINE_FAULT) from fault
    files = [found(filesystem, info, top) for info in sorted(infos, key=lambda info: info["name"]) if info["type"] == "file"]
    if not files:
        raise CorpusError(f"{url}: matches nothing")
    return files, is_folder


def found(filesystem, info: dict, top: str | None) -> FoundFile:
    """Return one file of a store."""
    name = info["name"]
    if info.get("size") is None:
        raise CorpusError(f"{name}: its server does not say how large it is; copy it here")
    short = without_query(name)[len(top) :] if top and name.startswith(top) else without_query(name).rsplit("/", 1)[-1]
    stamp = next((str(info[key]) for key in STAMPS if info.get(key)), "")
    return FoundFile(filesystem.unstrip_protocol(name), short, int(info["size"]), stamp)
