"""codemix inspect: print a corpus's manifest and some of its documents as text."""

import sys
from collections.abc import Iterator
from pathlib import Path

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.cli.licences import print_licences
from codemix_megatron.cli.read_documents import documents_of_run
from codemix_megatron.corpus.corpus_check import corpus_prefix
from codemix_megatron.corpus.decoded_samples import DecodedDocument, decode_documents, draw_documents
from codemix_megatron.corpus.document_table import DocumentOrigin, read_origins
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import encoding_notes
from codemix_megatron.corpus.tally import DUPLICATE
from codemix_megatron.corpus.tokenizers import load_tokenizer, tokenizer_of
from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.near_duplicates import NEAR_DUPLICATE
from codemix_megatron.printable import printable
from codemix_megatron.records.manifest import CorpusManifest, manifest_path
from codemix_megatron.records.run_folder import RunFolder, is_run_folder

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix inspect corpora/web_code
  codemix inspect corpora/web_code --samples 10 --seed 3 --held-out
  codemix inspect corpora/web_code --document 17 --characters 0
  codemix inspect corpora/web_code --licences --list documents.tsv --origins origins.tsv
  codemix inspect corpora/web_code --redactions
  codemix inspect runs/mine --licences                      # of everything the run has read
  codemix inspect /data/the_pile_text_document --tokenizer tokenizer.json

Of Megatron files without a manifest it prints what their index holds."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("corpus", metavar="CORPUS", help="prefix of a .bin/.idx pair, or one of its files")
    parser.add_argument("--samples", type=int, default=3, metavar="N", help="documents to show (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which documents are drawn (default %(default)s)")
    parser.add_argument("--held-out", action="store_true", help="draw from those never trained on")
    parser.add_argument("--document", type=int, action="append", metavar="I", help="show this document; may be given more than once")
    parser.add_argument("--characters", type=int, default=600, metavar="N", help="most characters of each, 0 for all (default %(default)s)")
    parser.add_argument("--ids", action="store_true", help="show token ids too")
    parser.add_argument(
        "--licences", action="store_true", help="count licences and origins instead; of a corpus, or of what a run has read"
    )
    parser.add_argument("--list", metavar="FILE", help="with --licences: write number, hash, licence, origin and place of each document")
    parser.add_argument(
        "--origins", metavar="FILE", help="with --licences: write documents, bytes and tokens of each origin under each licence"
    )
    parser.add_argument(
        "--redactions", action="store_true", help="print what was masked instead: counts of each form, samples with the masks"
    )
    parser.add_argument("--tokenizer", metavar="PATH", help="tokenizer to decode with (default: that of the manifest)")
    add_json_option(parser, "the manifest and the documents, or the licences,")


def run(arguments) -> None:
    """Print manifest and samples."""
    if arguments.samples < 0 or arguments.characters < 0:
        raise CorpusError(f"--samples {arguments.samples} --characters {arguments.characters}: neither may be negative")
    if arguments.licences:
        print_licences(named_documents(arguments.corpus), arguments.list, arguments.origins, arguments.json)
        return
    prefix = corpus_prefix(arguments.corpus)
    if arguments.redactions:
        print_redactions(prefix, arguments.json)
    else:
        print_corpus(prefix, arguments)


def print_corpus(prefix: str, arguments) -> None:
    """Print the manifest, or what the index holds where there is none, and some documents."""
    manifest = CorpusManifest.read(prefix) if manifest_path(prefix).is_file() else None
    reader = IndexedReader(prefix)
    tokenizer = find_tokenizer(arguments.tokenizer, manifest)
    numbers = arguments.document or draw_documents(reader, manifest, arguments.samples, arguments.seed, held_out=arguments.held_out)
    documents = decode_documents(reader, manifest, tokenizer, numbers)
    index = {"prefix": prefix, "documents": reader.num_documents, "tokens": reader.num_tokens, "dtype": reader.dtype.name}
    if arguments.json:
        shown = [document_as_plain(document, arguments.characters, arguments.ids) for document in documents]
        print_json({"index": index, "manifest": manifest, "documents": shown})
        return
    if manifest:
        print_manifest(manifest)
    else:
        print("{prefix}: no manifest; its index holds {documents:,} documents, {tokens:,} tokens of {dtype}".format(**index))
    for document in documents:
        print_document(document, arguments.characters, arguments.ids)


def document_as_plain(document: DecodedDocument, characters: int, with_ids: bool) -> dict:
    """Return one document for a script, its text cut where asked."""
    plain = {"number": document.number, "language": document.language, "is_held_out": document.is_held_out, "tokens": len(document.ids)}
    text = document.text if document.text is None else document.text[: characters or None]
    return {**plain, "text": text, **({"ids": document.ids.tolist()} if with_ids else {})}


def print_redactions(prefix: str, as_json: bool) -> None:
    """Print what was masked in a corpus, how often, in how many documents, and samples with the mask in them."""
    manifest = CorpusManifest.read(prefix)
    asked = manifest.filters.get("personal_data")
    if as_json:
        print_json({"asked": asked or [], "redactions": manifest.redactions})
        return
    if not asked:
        print(f"{prefix}: nothing was asked to be masked (filters.personal_data)")
    elif not manifest.redactions:
        print(f"{prefix}: nothing found to be masked of {', '.join(str(form) for form in asked)}")
    for what, found in manifest.redactions.items():
        print(f"{what}: {found['masked']:,} in {found['documents']:,}{of_how_many(manifest)}")
        for location, text in found["samples"]:
            print(f"    {printable(location)}: {printable(text)}")


def of_how_many(manifest: CorpusManifest) -> str:
    """Say which documents masks were counted in: copies are found after that, so some of them may have been left out later."""
    copies = sum(count for reason, count in manifest.dropped.items() if reason.startswith((DUPLICATE, NEAR_DUPLICATE)))
    later = f", before {copies:,} copies were left out; the corpus holds {manifest.num_documents:,}"
    return f" documents{later}" if copies else f" of {manifest.num_documents:,} documents"


def named_documents(name: str) -> Iterator[tuple[str, DocumentOrigin]]:
    """Yield (corpus, document) of a corpus, or of everything a run has read."""
    if is_run_folder(RunFolder(Path(name))):
        yield from documents_of_run(RunFolder(Path(name)))
        return
    prefix = corpus_prefix(name)
    for document in read_origins(prefix):
        yield prefix, document


def find_tokenizer(path: str | None, manifest: CorpusManifest | None):
    """Return the tokenizer given, or the manifest's where its file still is the same; None where neither is known."""
    if path:
        return load_tokenizer(path)
    if manifest is None or not Path(manifest.tokenizer.path).is_file():
        sys.stderr.write("no tokenizer known, so ids are shown; name it with --tokenizer\n")
        return None
    return tokenizer_of(manifest.tokenizer)


def print_manifest(manifest: CorpusManifest) -> None:
    """Print what the manifest says, counts as tables."""
    from codemix_megatron.cli.consoles import Console

    console = Console() if sys.stdout.isatty() else Console(width=140)
    tokenizer, encoder = manifest.tokenizer, manifest.encoder
    lines = [
        f"{manifest.name} ({manifest.kind}): {manifest.prefix}.bin, {manifest.dtype}, made {manifest.created_at or 'at an unknown time'}",
        f"  {manifest.num_documents:,} documents, {manifest.num_bytes:,} bytes, {manifest.num_tokens:,} tokens"
        f" ({manifest.num_bytes / max(1, manifest.num_tokens):.2f} bytes/token)",
        f"  {manifest.held_out_documents:,} of them held out ({manifest.held_out_tokens:,} tokens), share {manifest.held_out_share:g}",
        *([f"  {manifest.learned_tokens:,} of the tokens trained on are learned"] if manifest.learned_tokens is not None else []),
        f"  tokenizer: {tokenizer.path} ({tokenizer.type}), {tokenizer.vocab_size:,} ids, {tokenizer.end_of_document_id} ends documents"
        f"{'' if tokenizer.beginning_of_document_id is None else f', {tokenizer.beginning_of_document_id} begins them'}",
        f"    sha256 {tokenizer.sha256}",
        *([f"    ids by {encoder.library}{f'; {encoder.refused}' if encoder.refused else ''}"] if encoder else []),
        f"  .bin sha256 {manifest.bin_sha256}",
        f"  .idx sha256 {manifest.idx_sha256}",
        f"  from {', '.join(manifest.documents) or 'unknown documents'}",
        f"  order: {'that of the input' if manifest.shuffle_seed is None else f'shuffled by seed {manifest.shuffle_seed}'}",
    ]
    say(console, *lines)
    for heading in ("kinds", "languages", "licences"):
        if groups := getattr(manifest, heading):
            console.print(counts_table(heading.removesuffix("s"), groups, manifest.num_tokens))
    if manifest.filters:
        import yaml

        say(console, "filters:", *(f"  {line}" for line in yaml.safe_dump(manifest.filters, sort_keys=False).splitlines()))
    say(console, *encoding_notes(manifest))
    for what, count in manifest.rewritten.items():
        masked = manifest.redactions.get(what)
        say(console, f"{what}: {count:,} in {masked['documents']:,} documents" if masked else f"changed in {count:,} documents: {what}")
    for reason, count in manifest.dropped.items():
        say(console, f"left out {count:,}: {reason}: {', '.join(manifest.dropped_places.get(reason, [])[:3])}")
        say(console, *(f"    | {printable(' '.join(example.split()))[:110]}" for example in manifest.dropped_examples.get(reason, [])[:2]))


def say(console, *lines: str) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def counts_table(heading: str, groups: dict, num_tokens: int):
    """Return the table of one way to group documents."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(heading, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("documents", "bytes", "tokens", "share", "bytes/token"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, counted in groups.items():
        share, per_token = counted["tokens"] / max(1, num_tokens), counted["bytes"] / max(1, counted["tokens"])
        cells = [f"{counted[key]:,}" for key in ("documents", "bytes", "tokens")]
        table.add_row(name, *cells, f"{100 * share:.1f} %", f"{per_token:.2f}")
    return table


def print_document(document: DecodedDocument, characters: int, with_ids: bool) -> None:
    """Print one document, cut where asked."""
    about = ", ".join(filter(None, (document.language, "held out" if document.is_held_out else None, f"{len(document.ids):,} tokens")))
    print(f"\n--- document {document.number} ({about})")
    if with_ids or document.text is None:
        shown = document.ids[: characters or None]
        print(" ".join(map(str, shown.tolist())) + (" ..." if len(shown) < len(document.ids) else ""))
    if document.text is not None:
        text = document.text[: characters or None]
        rest = len(document.text) - len(text)
        print(printable(text) + (f"\n... {rest:,} more characters" if rest else ""))
