"""codemix pages: studies as static pages that any web server shows."""

import sys
from pathlib import Path

from codemix_megatron.errors import CodemixError

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix pages runs/mini --output public
  codemix pages runs/mini runs/seeds --output public --samples 10
  codemix pages runs/company --output public --samples 0      shows no document and nothing that a model wrote

One folder: index.html with a search, and for each study its variants with verdicts, its lineage from corpora to scores, the mixtures of
every phase, documents of its corpora, what models wrote, recipes, and the whole report. Opens from the disk too."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="folders that codemix study run has made")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write into; pages of the same studies are replaced")
    parser.add_argument(
        "--samples", type=int, default=5, metavar="N", help="documents of each corpus and texts of each task to show (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="which documents are drawn (default %(default)s)")


def run(arguments) -> None:
    """Write the pages and print where they are."""
    from codemix_megatron.study.pages.writing import write_pages

    if arguments.samples < 0:
        raise CodemixError(f"--samples: found {arguments.samples}, must not be negative")
    path = write_pages(
        arguments.studies,
        Path(arguments.output),
        samples=arguments.samples,
        seed=arguments.seed,
        progress=lambda name: print(name, file=sys.stderr),
    )
    sys.stdout.write(f"file://{path}\n")
