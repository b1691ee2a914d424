"""`codemix remove CORPUS`: a corpus without some documents, and the runs that have read them."""

from collections.abc import Sequence

from codemix_megatron.cli.read_documents import read_by_run
from codemix_megatron.corpus.corpus_check import corpus_prefix
from codemix_megatron.corpus.document_table import DocumentOrigin
from codemix_megatron.corpus.removal import find_documents, remove_documents
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix remove corpora/web_code --origin someone/project --output corpora/web_code_2
  codemix remove corpora/web_code --document 17 --document /data/stack/7.jsonl:1041 --output corpora/web_code_2 --run runs/a --run runs/b
  codemix remove corpora/web_code --origin someone/project --run runs/a      # only says which runs have read them

The corpus it is made from stays. Documents are named by their number, their place or the hash of their text, origins as
`codemix inspect CORPUS --licences` prints them. Exit code 2 when a name fits no document."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("corpus", metavar="CORPUS", help="prefix of a .bin/.idx pair, or one of its files")
    parser.add_argument("--origin", action="append", default=[], metavar="REPO", help="remove all documents of this origin")
    parser.add_argument("--document", action="append", default=[], metavar="ID", help="remove this document: number, place or hash")
    parser.add_argument("--output", metavar="PREFIX", help="where the corpus without them is written")
    parser.add_argument("--run", action="append", default=[], dest="run_folders", metavar="RUN", help="say whether this run has read them")


def run(arguments) -> None:
    """Remove, and print what was removed."""
    if not arguments.origin and not arguments.document:
        raise CorpusError("codemix remove: nothing named; give --origin REPO or --document ID")
    if not arguments.output and not arguments.run_folders:
        raise CorpusError("codemix remove: give --output PREFIX for the corpus without them, --run RUN to ask who has read them, or both")
    prefix = corpus_prefix(arguments.corpus)
    documents = find_documents(prefix, arguments.origin, arguments.document)
    manifest = CorpusManifest.read(prefix)
    for folder in arguments.run_folders:
        print(documents_read(RunFolder.existing(folder), manifest, documents))
    if arguments.output:
        made = remove_documents(prefix, [document.document for document in documents], arguments.output)
        print(f"{made.prefix}.bin: {made.num_documents:,} documents, {made.num_tokens:,} tokens; {len(documents):,} documents removed")


def documents_read(folder: RunFolder, manifest: CorpusManifest, documents: Sequence[DocumentOrigin]) -> str:
    """Return a line that says how many of the documents a run has read."""
    met = {
        document.document
        for theirs, read in read_by_run(folder).values()
        if theirs.bin_sha256 == manifest.bin_sha256
        for document in documents
        if document.document < len(read) and read[document.document]
    }
    return f"{folder.path}: has read {len(met):,} of {len(documents):,} of them" + (f" ({listed(met)})" if met else "")


def listed(numbers: set[int]) -> str:
    """Return the first few numbers."""
    first = sorted(numbers)[:8]
    return "documents " + ", ".join(map(str, first)) + (", ..." if len(numbers) > len(first) else "")
