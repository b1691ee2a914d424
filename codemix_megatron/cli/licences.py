"""`codemix inspect --licences`: licences and origins of a corpus, or of everything a run has read, counted and listed."""

import sys
from collections import Counter
from collections.abc import Iterable

from codemix_megatron.corpus.document_table import DocumentOrigin
from codemix_megatron.records.atomic import writing

__all__ = ["print_licences"]

ORIGINS_SHOWN = 3
UNKNOWN = "unknown"


def print_licences(documents: Iterable[tuple[str, DocumentOrigin]], list_path: str | None) -> None:
    """Print documents and bytes of each licence with its largest origins; write a line for each document where a path is given."""
    counted: dict[str, Counter] = {}
    if list_path is None:
        for _, document in documents:
            count(counted, document)
    else:
        with writing(list_path, "wb") as handle:
            handle.write(b"corpus\tdocument\tbytes\txxh3_128\tlicence\torigin\tplace\n")
            for corpus, document in documents:
                count(counted, document)
                handle.write(f"{corpus}\t{line_of(document)}\n".encode("utf-8", "surrogateescape"))
    print_table(counted)


def line_of(document: DocumentOrigin) -> str:
    """Return the line of one document."""
    known = (document.licence or UNKNOWN, document.origin or UNKNOWN, document.place)
    return "\t".join((str(document.document), str(document.num_bytes), document.digest, *known))


def count(counted: dict[str, Counter], document: DocumentOrigin) -> None:
    """Count a document under its licence."""
    sums = counted.setdefault(document.licence or UNKNOWN, Counter())
    sums["documents", ""] += 1
    sums["bytes", ""] += document.num_bytes
    sums["origin", document.origin or UNKNOWN] += document.num_bytes


def print_table(counted: dict[str, Counter]) -> None:
    """Print one row for each licence, the largest first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    table = Table("licence", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("documents", "bytes", "share", "origins"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("the largest of them")
    total = sum(sums["bytes", ""] for sums in counted.values())
    for licence, sums in sorted(counted.items(), key=lambda item: -item[1]["bytes", ""]):
        origins = Counter({name: amount for (what, name), amount in sums.items() if what == "origin"})
        share = f"{100 * sums['bytes', ''] / max(1, total):.1f} %"
        shown = ", ".join(name for name, _ in origins.most_common(ORIGINS_SHOWN))
        table.add_row(licence, f"{sums['documents', '']:,}", f"{sums['bytes', '']:,}", share, f"{len(origins):,}", shown)
    (Console() if sys.stdout.isatty() else Console(width=160)).print(table)
