"""codemix verify-corpus: re-read prepared corpora and name what is not as it should be."""

from pathlib import Path

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.corpus.corpus_check import Checked, check_corpus, corpus_prefix
from codemix_megatron.corpus.tokenizers import load_tokenizer

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix verify-corpus corpora/web_code corpora/wiki
  codemix verify-corpus /data/the_pile_text_document --tokenizer tokenizer.json
  codemix verify-corpus corpora/*.bin

Reads every byte: checksums, index, counts of the manifest, every id, the end of every document, the tokenizer's file. Up to 96
documents, drawn and with the rarest ids, are decoded and encoded again by the library that defines the ids, tokenizers or
sentencepiece, never by a fast one. Of plain Megatron files without a manifest it checks the index, and with --tokenizer the ids.
Exit code 0 when all is as it should be, 1 when something differs (each difference is named), 2 when there is no corpus."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("corpora", nargs="+", metavar="CORPUS", help="prefix of a .bin/.idx pair, or one of its files")
    parser.add_argument("--tokenizer", metavar="PATH", help="tokenizer to hold the ids against (default: that of the manifest)")
    add_json_option(parser, "what was found")


def run(arguments) -> int:
    """Check all, print a line for each, return 1 when one of them differs."""
    from codemix_megatron.cli.progress import progress_bar

    tokenizer = load_tokenizer(arguments.tokenizer) if arguments.tokenizer else None
    prefixes = list(dict.fromkeys(corpus_prefix(name) for name in arguments.corpora))
    sizes = {prefix: Path(f"{prefix}.bin").stat().st_size if Path(f"{prefix}.bin").is_file() else 0 for prefix in prefixes}
    found = []
    with progress_bar("MB") as bar:
        task = bar.add_task("reading", total=round(sum(sizes.values()) / 1e6))
        for prefix in prefixes:
            bar.update(task, description=Path(prefix).name)
            found.append(check_corpus(prefix, tokenizer, lambda num_bytes: bar.advance(task, num_bytes / 1e6)))
    if arguments.json:
        print_json([{name: value for name, value in vars(checked).items() if name != "manifest"} for checked in found])
    else:
        for checked in found:
            print_checked(checked)
    return 1 if any(checked.differences for checked in found) else 0


def print_checked(checked: Checked) -> None:
    """Print the verdict on one corpus."""
    verdict = f"{len(checked.differences)} differences" if checked.differences else "as it should be"
    print(f"{checked.prefix}: {checked.documents:,} documents, {checked.tokens:,} tokens: {verdict}")
    for line in checked.differences:
        print(f"  {line}")
    for line in checked.notes:
        print(f"  {line}")
    for line in checked.unchecked:
        print(f"  not checked: {line}")
