"""`codemix prepare RECIPE`: documents -> Megatron .bin/.idx corpora with manifests."""

import sys
import time
from contextlib import contextmanager

from codemix_megatron.corpus.finishing import DECIDERS
from codemix_megatron.corpus.parts import Shard
from codemix_megatron.corpus.prepare import MAX_BAD_SHARE, HowToPrepare, ProgressState, UnpreparedError, prepare_recipe, prepare_tokenizer
from codemix_megatron.errors import RecipeError
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["add_arguments", "run"]

SECONDS_BETWEEN_LINES = 30

EPILOG = """examples:
  codemix prepare examples/demo/recipe.yaml
  codemix prepare recipe.yaml --only web_code --only wiki
  codemix prepare recipe.yaml evaluation.held_out_share=0.05 corpora.wiki.documents='[data/wiki/*.jsonl]'
  codemix prepare recipe.yaml --max-bad-share 0.01
  codemix prepare recipe.yaml --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT   # sbatch --array=0-31
  codemix prepare recipe.yaml --tokenizer-only                                       # before the shards, where it is to be trained
  codemix merge recipe.yaml                                                          # when all shards are done

Documents are .jsonl files (.gz and .zst too), Parquet, Arrow, text files, notebooks, folders of sources,
git:REPOSITORY, issues:FILE, stackexchange:POSTS.XML, python:text, python:code and
python:code-without-docstrings; globs and URLs of them.
Exact duplicates and empty texts are left out; PREFIX.manifest.json lists what and where.
A corpus is prepared again only when its documents, the tokenizer or the held-out share have changed.
Stopped or killed, the same command goes on where it was: parts that are done are not done again. Any number
of shards and workers gives the same files, byte for byte."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="YAML recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys to change, such as corpora.text.prefix=/data/text")
    parser.add_argument("--only", action="append", metavar="NAME", help="prepare this corpus; may be given more than once")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: one per 256 MB of documents, at most one per core")
    parser.add_argument("--shard", metavar="I/N", help="do every N-th part from the I-th (from 0) and publish nothing; see codemix merge")
    parser.add_argument("--tokenizer-only", action="store_true", help="train the recipe's tokenizer where it is missing, and nothing else")
    parser.add_argument("--force", action="store_true", help="prepare again what is already prepared")
    add_finishing_arguments(parser)


def add_finishing_arguments(parser) -> None:
    """Declare what prepare and merge both take."""
    parser.add_argument(
        "--duplicates-by",
        choices=list(DECIDERS),
        default="memory",
        help="what decides which documents are copies; all decide the same (default %(default)s)",
    )
    parser.add_argument(
        "--check-inputs",
        action="store_true",
        help="compare every byte of large documents with what was read, where size, times and inode are the same too",
    )
    parser.add_argument(
        "--max-bad-share", type=float, default=MAX_BAD_SHARE, metavar="X", help="most damaged documents to leave out (default %(default)s)"
    )


def run(arguments) -> None:
    """Prepare and print what there is."""
    check_arguments(arguments)
    recipe = read_recipe(arguments.recipe, arguments.overrides)
    shard = Shard.parse(arguments.shard) if arguments.shard else None
    with reporting() as (progress, say):
        if arguments.tokenizer_only:
            prepare_tokenizer(recipe, say=say)
            return
        how = HowToPrepare(
            max_bad_share=arguments.max_bad_share, force=arguments.force, check_inputs=arguments.check_inputs,
            duplicates_by=arguments.duplicates_by, workers=arguments.workers,
            shard=shard, progress=progress, say=say,
        )  # fmt: skip
        try:
            manifests = prepare_recipe(recipe, arguments.only, how)
        except UnpreparedError as fault:
            if fault.finished:
                print_summary(fault.finished)  # nothing is lost: the error comes after
            raise
    if shard:
        print(f"shard {arguments.shard}: done; when all {shard.count} are: codemix merge {arguments.recipe}")
    if manifests:
        print_summary(manifests)


def check_arguments(arguments) -> None:
    """Raise RecipeError for numbers outside their range."""
    if not 0 <= arguments.max_bad_share <= 1:
        raise RecipeError(f"--max-bad-share: found {arguments.max_bad_share}, allowed are 0 to 1")
    if arguments.workers is not None and arguments.workers < 1:
        raise RecipeError(f"--workers: found {arguments.workers}, allowed are 1 and more")


@contextmanager
def reporting():
    """Give (progress, say): a bar on a terminal, a line now and then elsewhere."""
    if not sys.stdout.isatty():
        yield ProgressLines().show, lambda line: print(line, flush=True)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TextColumn("{task.fields[rates]}"))
    with Progress(*columns, TimeRemainingColumn()) as bar:
        tasks, rates = {}, {}

        def show(state: ProgressState) -> None:
            if state.name not in tasks:
                rates[state.name] = Rates()
                tasks[state.name] = bar.add_task(state.name, total=state.total_bytes, completed=state.bytes_read, rates="")
            bar.update(tasks[state.name], completed=state.bytes_read, total=state.total_bytes, rates=rates[state.name].describe(state))

        yield show, lambda line: bar.console.print(line, highlight=False, markup=False, soft_wrap=True)


class Rates:
    """Documents and tokens per second of one corpus, since it was begun."""

    def __init__(self):
        self.began_at = time.monotonic()

    def describe(self, state: ProgressState) -> str:
        """Return both as text."""
        seconds = max(1e-3, time.monotonic() - self.began_at)
        return f"{state.num_documents / seconds:,.0f} documents/s {state.num_tokens / seconds:,.0f} tokens/s"


class ProgressLines:
    """Prints a line per corpus when it is read, and now and then before."""

    def __init__(self):
        self.rates, self.seen, self.told_at = {}, None, time.monotonic()

    def show(self, state: ProgressState) -> None:
        """Take the state of one corpus."""
        rates = self.rates.setdefault(state.name, Rates())
        if not state.total_bytes or (state.name, state.bytes_read) == self.seen:
            return
        self.seen = (state.name, state.bytes_read)
        if state.bytes_read == state.total_bytes or time.monotonic() - self.told_at > SECONDS_BETWEEN_LINES:
            self.told_at = time.monotonic()
            print(f"{state.name}: read {state.bytes_read:,} of {state.total_bytes:,} bytes, {rates.describe(state)}", flush=True)


def print_summary(manifests: dict[str, CorpusManifest]) -> None:
    """Print one row per corpus, their languages, and what was left out."""
    from codemix_megatron.cli.consoles import Console

    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(corpus_table(manifests))
    for name, manifest in manifests.items():
        if manifest.languages:
            listed = ", ".join(
                f"{language} {100 * c['tokens'] / max(1, manifest.num_tokens):.1f} %" for language, c in manifest.languages.items()
            )
            console.print(f"{name}: languages by tokens: {listed}", highlight=False, markup=False, soft_wrap=True)
        for reason, count in manifest.dropped.items():
            locations = ", ".join(manifest.dropped_places.get(reason, [])[:2])
            console.print(f"{name}: left out {count} ({reason}): {locations}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"{name}: {manifest.prefix}.bin", highlight=False, markup=False, soft_wrap=True)


def corpus_table(manifests: dict[str, CorpusManifest]):
    """Return the table of counts."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("corpus", "kind", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("documents", "held out", "tokens", "MB", "bytes/token", "left out"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, manifest in manifests.items():
        table.add_row(
            name,
            manifest.kind,
            f"{manifest.num_documents:,}",
            f"{manifest.held_out_documents:,}",
            f"{manifest.num_tokens:,}",
            f"{manifest.num_bytes / 1e6:,.1f}",
            f"{manifest.num_bytes / max(1, manifest.num_tokens):.2f}",
            f"{sum(manifest.dropped.values()):,}",
        )
    return table
