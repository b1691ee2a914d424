"""`codemix inspect --licences`: licences and origins of a corpus, or of everything a run has read, counted and listed."""

import sys
from collections import Counter
from collections.abc import Iterable

import numpy as np

from codemix_megatron.cli.json_output import print_json
from codemix_megatron.corpus.document_table import DocumentOrigin
from codemix_megatron.records.atomic import writing

__all__ = ["print_licences"]

ORIGINS_SHOWN = 3
UNKNOWN = "unknown"


Counts = dict[tuple[str, str], np.ndarray]  # (licence, origin) -> documents, bytes, tokens


def print_licences(
    documents: Iterable[tuple[str, DocumentOrigin]], list_path: str | None, origins_path: str | None = None, as_json: bool = False
) -> None:
    """Print documents, bytes and tokens of each licence with its largest origins.

    Where paths are given, write a line for each document, and one for each origin under each licence.
    """
    counted: Counts = {}
    if list_path is None:
        for _, document in documents:
            count(counted, document)
    else:
        with writing(list_path, "wb") as handle:
            handle.write(b"corpus\tdocument\tbytes\ttokens\txxh3_128\tlicence\torigin\tplace\n")
            for corpus, document in documents:
                count(counted, document)
                handle.write(f"{corpus}\t{line_of(document)}\n".encode("utf-8", "surrogateescape"))
    if origins_path is not None:
        write_origins(counted, origins_path)
    if as_json:
        print_json([origin_as_plain(*key, sums) for key, sums in sorted(counted.items())])
    else:
        print_table(counted)


def origin_as_plain(licence: str, origin: str, sums: np.ndarray) -> dict:
    """Return the counts of one origin under one licence."""
    return {"licence": licence, "origin": origin, **dict(zip(("documents", "bytes", "tokens"), sums.tolist(), strict=True))}


def line_of(document: DocumentOrigin) -> str:
    """Return the line of one document."""
    numbers = (document.document, document.num_bytes, document.num_tokens)
    return "\t".join((*map(str, numbers), document.digest, document.licence or UNKNOWN, document.origin or UNKNOWN, document.location))


def count(counted: Counts, document: DocumentOrigin) -> None:
    """Count a document under its licence and its origin."""
    sums = counted.setdefault((document.licence or UNKNOWN, document.origin or UNKNOWN), np.zeros(3, np.int64))
    sums += (1, document.num_bytes, document.num_tokens)


def write_origins(counted: Counts, path: str) -> None:
    """Write licence, origin, documents, bytes and tokens of each origin, those of a licence together, the largest first."""
    with writing(path, "wb") as handle:
        handle.write(b"licence\torigin\tdocuments\tbytes\ttokens\n")
        for (licence, origin), sums in sorted(counted.items(), key=lambda item: (item[0][0], -item[1][1], item[0][1])):
            handle.write("\t".join((licence, origin, *map(str, sums.tolist()))).encode("utf-8", "surrogateescape") + b"\n")


def print_table(counted: Counts) -> None:
    """Print one row for each licence, the largest first, and one for all of them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    table = Table("licence", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("documents", "bytes", "tokens", "share", "origins"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("the largest of them")
    origins: dict[str, Counter] = {}
    for (licence, origin), sums in counted.items():
        origins.setdefault(licence, Counter())[origin] = int(sums[1])
    sums_of = {licence: np.sum([counted[licence, origin] for origin in of_licence], axis=0) for licence, of_licence in origins.items()}
    total = np.sum([np.zeros(3, np.int64), *sums_of.values()], axis=0)
    for licence, sums in sorted(sums_of.items(), key=lambda item: -item[1][1]):
        shown = ", ".join(name for name, _ in origins[licence].most_common(ORIGINS_SHOWN))
        share = f"{100 * sums[2] / max(1, total[2]):.1f} %"
        table.add_row(licence, *(f"{amount:,}" for amount in sums.tolist()), share, f"{len(origins[licence]):,}", shown)
    table.add_row("all", *(f"{amount:,}" for amount in total.tolist()), "", f"{len({origin for _, origin in counted}):,}", "")
    (Console() if sys.stdout.isatty() else Console(width=160)).print(table)
