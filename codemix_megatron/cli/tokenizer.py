"""codemix tokenizer train, codemix tokenizer report: making a tokenizer, and comparing several."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.corpus.held_out import HeldOutRule
from codemix_megatron.corpus.indexed import token_dtype
from codemix_megatron.corpus.tokenizer_report import ReportRow, compare_tokenizers
from codemix_megatron.corpus.tokenizers import load_tokenizer, train_tokenizer
from codemix_megatron.corpus.training_sample import SAMPLE_BYTES, Sampled, keep_shares, sample_corpus, share_budget
from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.filters import filtered_inputs
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.recipe.mixture_shares import flatten_mixture
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.schema import CorpusSpec
from codemix_megatron.records.atomic import write_json

__all__ = ["add_arguments", "run"]

FILL_IN_THE_MIDDLE = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>")
SAMPLE_BYTES_PER_ID = 1000  # enough text for merges of rare words to occur more than once
REPORT_BYTES = 2_000_000
KINDS = ("text", "code", "markup", "code_adjacent", "synthetic")

EPILOG = """examples:
  codemix tokenizer train tokenizer.json --vocab-size 32000 --corpus text='wiki/*.jsonl' --corpus code=src --share text=0.6 --share code=0.4
  codemix tokenizer train tokenizer.json --vocab-size 256000 --recipe recipe.yaml --fill-in-the-middle
  codemix tokenizer report tokenizer.json other/tokenizer.json llama/tokenizer.model --recipe recipe.yaml
  codemix tokenizer report tokenizer.json --corpus code='code/*.jsonl' --output report.json"""

TRAIN = """Trains a byte-level BPE: any text comes back byte for byte, digits stand alone, indentation and line ends are tokens.
The sample is drawn by the seed from all documents that are not held out; the same corpora and seed give the same file.
OUTPUT.training.json says what it was trained on."""

REPORT = """Encodes a sample of each corpus with each tokenizer. bytes/token: higher is shorter sequences, in brackets against the first
tokenizer. `unchanged`: documents that decode to exactly the text they were."""


def add_arguments(parser) -> None:
    """Declare the arguments of both subcommands."""
    shapes = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    actions = parser.add_subparsers(dest="action", required=True, metavar="train|report")
    train = actions.add_parser("train", help="train a tokenizer on a sample of corpora", description=TRAIN, epilog=EPILOG, **shapes)
    train.add_argument("output", metavar="OUTPUT", help="tokenizer.json to write")
    train.add_argument("--vocab-size", type=int, required=True, metavar="N", help="ids, special tokens included: 1000 to 256000 are usual")
    add_corpora(train)
    train.add_argument(
        "--share", action="append", default=[], metavar="NAME=X", help="share of a corpus in the sample (default: equal, as far as it goes)"
    )
    train.add_argument(
        "--special", action="append", default=[], metavar="TOKEN", help="a further special token; may be given more than once"
    )
    train.add_argument("--fill-in-the-middle", action="store_true", help=f"the special tokens {' '.join(FILL_IN_THE_MIDDLE)}")
    train.add_argument("--force", action="store_true", help="replace OUTPUT")
    report = actions.add_parser("report", help="compare tokenizers on corpora", description=REPORT, epilog=EPILOG, **shapes)
    report.add_argument("tokenizers", nargs="+", metavar="TOKENIZER", help="tokenizer.json, *.model, or a folder that holds one")
    add_corpora(report)
    report.add_argument("--output", metavar="FILE", help="write the counts as JSON too")
    add_json_option(report, "the counts")


def add_corpora(parser) -> None:
    """Declare what both read."""
    parser.add_argument("--recipe", metavar="RECIPE", help="take the corpora of a recipe; training takes the shares of all its phases")
    parser.add_argument(
        "--corpus", action="append", default=[], metavar="NAME=DOCUMENTS",
        help=f"file, folder or glob; a NAME of {', '.join(KINDS)} says what is looked for in a folder",
    )  # fmt: skip
    parser.add_argument("--text-key", default="text", metavar="KEY", help="key of the text in JSON lines (default %(default)s)")
    parser.add_argument("--sample-bytes", metavar="N", help="bytes of text to draw, such as 200M (train: in all; report: per corpus)")
    parser.add_argument("--seed", type=int, default=None, help="of the sample (default: the recipe's, else 0)")


def run(arguments) -> None:
    """Train or report."""
    recipe = read_recipe(arguments.recipe) if arguments.recipe else None
    specs = named_specs(arguments, recipe)
    arguments.seed = arguments.seed if arguments.seed is not None else (recipe.seed if recipe else 0)
    {"train": train, "report": report}[arguments.action](arguments, recipe, specs)


def named_specs(arguments, recipe) -> dict[str, CorpusSpec]:
    """Return the corpora of the recipe and of the command line; raises CorpusError when there are none."""
    specs = {name: spec for name, spec in recipe.corpora.items() if spec.documents} if recipe else {}
    for word in arguments.corpus:
        name, equals, documents = word.partition("=")
        if not (name and equals and documents):
            raise CorpusError(f"--corpus {word}: write NAME=DOCUMENTS, such as code='src/*.jsonl'")
        before = specs[name].documents if name in specs else ()
        specs[name] = CorpusSpec(kind=name if name in KINDS else "text", documents=(*before, documents), text_key=arguments.text_key)
    if not specs:
        raise CorpusError("no corpora named; give --recipe RECIPE, or --corpus NAME=DOCUMENTS once or more")
    return specs


def train(arguments, recipe, specs: dict[str, CorpusSpec]) -> None:
    """Draw the sample, train, say what came out."""
    output = Path(arguments.output)
    if output.suffix != ".json":
        raise CorpusError(f"{output}: must end in .json, as tokenizer.json does")
    if output.exists() and not arguments.force:
        raise CorpusError(f"{output}: already there; give another name, or --force to replace it (corpora made with it become useless)")
    inputs = {name: filtered_inputs(find_inputs(spec, where=name), spec.filters) for name, spec in specs.items()}
    wanted = counted(arguments.sample_bytes) or max(SAMPLE_BYTES, arguments.vocab_size * SAMPLE_BYTES_PER_ID)
    shares = given_shares(arguments.share) or (recipe_shares(recipe, inputs) if recipe else None)
    budget = share_budget(list(inputs), wanted, shares)
    samples = draw(inputs, budget, arguments.seed, recipe.evaluation.held_out_share if recipe else 0.0)
    if shares:
        samples = keep_shares(samples, budget)
    taken = {name: sum(len(sampled.text.encode()) for sampled in sample) for name, sample in samples.items()}
    if not sum(taken.values()):
        raise CorpusError(f"{', '.join(specs)}: no documents to train on; check paths and --text-key")
    for name, num_bytes in taken.items():
        short = f" of {budget[name] / 1e6:.1f} MB wanted: there is no more" if num_bytes < 0.5 * budget[name] else ""
        print(f"{name}: {len(samples[name]):,} documents, {num_bytes / 1e6:.1f} MB ({100 * num_bytes / sum(taken.values()):.1f} %){short}")
    special = [*arguments.special, *(FILL_IN_THE_MIDDLE if arguments.fill_in_the_middle else ())]
    texts = (sampled.text for sample in samples.values() for sampled in sample)
    train_tokenizer(texts, arguments.vocab_size, output, special_tokens=special, show_progress=sys.stderr.isatty())
    metadata = load_tokenizer(output).metadata
    made_from = {name: {"documents": list(specs[name].documents), "sampled_bytes": taken[name]} for name in specs}
    write_json(
        output.with_suffix(".training.json"), {**asdict(metadata), "seed": arguments.seed, "special_tokens": special, "corpora": made_from}
    )
    print(f"{output}: {metadata.vocab_size:,} ids, {token_dtype(metadata.vocab_size).name} on disk, sha256 {metadata.sha256[:12]}")
    if metadata.vocab_size < arguments.vocab_size:
        print(f"  {arguments.vocab_size:,} were asked for; the sample holds no more pairs that occur twice, give more with --sample-bytes")


def counted(text: str | None) -> int | None:
    """Return a number of bytes as people write them."""
    try:
        return parse_tokens(text) if text else None
    except ValueError as fault:
        raise CorpusError(f"--sample-bytes: {fault}") from None


def given_shares(words: list[str]) -> dict[str, float]:
    """Return the shares of the command line."""
    try:
        return {name: float(share) for name, _, share in (word.partition("=") for word in words)}
    except ValueError:
        raise CorpusError(f"--share {' '.join(words)}: write NAME=X with X from 0 to 1, such as text=0.6") from None


def recipe_shares(recipe, inputs: dict) -> dict[str, float]:
    """Return each corpus's share of all tokens of a recipe's phases, of those corpora that name documents."""
    sizes = {name: sum(file.num_bytes for file in files) for name, files in inputs.items()}
    sizes = {**dict.fromkeys(recipe.corpora, 1), **sizes}
    tokens = dict.fromkeys(inputs, 0.0)
    for phase in recipe.phases:
        for name, share in flatten_mixture(phase.mixture, phase.tokens, sizes).items():
            if name in tokens:
                tokens[name] += share * phase.tokens
    whole = sum(tokens.values())
    return {name: count / whole for name, count in tokens.items()} if whole else {}


def draw(inputs: dict, budget: dict[str, int], seed: int, held_out_share: float) -> dict[str, list[Sampled]]:
    """Return the sample of each corpus, with a bar over the bytes read."""
    from codemix_megatron.cli.progress import progress_bar

    with progress_bar("MB") as bar:
        task = bar.add_task("reading", total=round(sum(f.num_bytes for name in inputs if budget[name] for f in inputs[name]) / 1e6))
        rule = HeldOutRule(held_out_share)
        return {
            name: sample_corpus(files, rule, seed, budget[name], lambda n: bar.advance(task, n / 1e6)) if budget[name] else []
            for name, files in inputs.items()
        }


def report(arguments, recipe, specs: dict[str, CorpusSpec]) -> None:
    """Draw a sample of each corpus, encode it with each tokenizer, print the table."""
    from codemix_megatron.cli.progress import progress_bar

    tokenizers = [load_tokenizer(path) for path in arguments.tokenizers]
    inputs = {name: find_inputs(spec, where=name) for name, spec in specs.items()}
    samples = draw(inputs, dict.fromkeys(inputs, counted(arguments.sample_bytes) or REPORT_BYTES), arguments.seed, 0.0)
    with progress_bar("documents") as bar:
        task = bar.add_task("encoding", total=sum(len(sample) for sample in samples.values()))
        rows = compare_tokenizers(tokenizers, samples, lambda documents: bar.advance(task, documents))
    counts = {"seed": arguments.seed, "tokenizers": [asdict(t.metadata) for t in tokenizers], "rows": [asdict(row) for row in rows]}
    if arguments.json:
        print_json(counts)
    else:
        print_report(tokenizers, rows)
    if arguments.output:
        write_json(arguments.output, counts)


def print_report(tokenizers: list, rows: list[ReportRow]) -> None:
    """Print the tokenizers with their numbers, then a row per corpus and language."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    console = Console() if sys.stdout.isatty() else Console(width=160)
    for number, tokenizer in enumerate(tokenizers, 1):
        console.print(f"[{number}] {tokenizer.metadata.path}: {tokenizer.vocab_size:,} ids", highlight=False, markup=False, soft_wrap=True)
    table = Table("corpus", "language", "documents", "MB", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number in range(1, len(tokenizers) + 1):
        table.add_column(f"[{number}] bytes/token".replace("[", r"\["), no_wrap=True)
        if len(tokenizers) == 1:
            table.add_column("tokens/byte", no_wrap=True)
        table.add_column("unchanged", no_wrap=True)
    table.columns[1].no_wrap = True
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        cells = [cell for number in range(len(tokenizers)) for cell in compression_cells(row, number)]
        table.add_row(row.corpus if not row.language else "", row.language, f"{row.documents:,}", f"{row.bytes / 1e6:.2f}", *cells)
    console.print(table)


def compression_cells(row: ReportRow, number: int) -> list[str]:
    """Return what one row says of one tokenizer, against the first."""
    own, first = row.bytes_per_token(number), row.bytes_per_token(0)
    against = f" ({100 * (own / first - 1):+.0f} %)" if number and first else ""
    per_byte = [f"{row.tokens[0] / max(1, row.bytes):.3f}"] if len(row.tokens) == 1 else []
    return [f"{own:.2f}{against}", *per_byte, f"{100 * row.unchanged[number] / max(1, row.documents):.0f} %"]
