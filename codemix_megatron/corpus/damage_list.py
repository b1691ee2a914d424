"""PREFIX.damaged.tsv: the location and the reason of every damaged document of a corpus."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from codemix_megatron.corpus.finishing import Finishing
from codemix_megatron.corpus.tally import Dropped
from codemix_megatron.readers.json_lines import name_lines
from codemix_megatron.records.atomic import writing

__all__ = ["write_damaged"]

MOST_DAMAGED_LISTED = 100_000


def write_damaged(finishing: Finishing, path: Path) -> None:
    """Write the location and the reason of every damaged document, one a line; remove such a list when there are none."""
    if not finishing.dropped.num_damaged:
        path.unlink(missing_ok=True)
        return
    noted = itertools.islice(damaged(finishing), MOST_DAMAGED_LISTED)
    locations, reasons = zip(*noted, strict=True)
    with writing(path, "wb") as handle:
        for location, reason in zip(name_lines(list(locations)), reasons, strict=True):
            handle.write(f"{location}\t{reason}\n".encode("utf-8", "surrogateescape"))


def damaged(finishing: Finishing) -> Iterator[list[str]]:
    """Yield location and reason of each damaged document."""
    for number, part in enumerate(finishing.parts):
        if Dropped.from_plain(part.dropped).num_damaged:
            with open(finishing.folder.file(number, "damaged"), encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
                for line in lines:
                    yield line.rstrip("\n").rsplit("\t", 1)  # a path may hold tabs
