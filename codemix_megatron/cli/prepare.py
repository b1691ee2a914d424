"""`codemix prepare RECIPE`: documents -> Megatron .bin/.idx corpora with manifests."""

import sys
import time
from contextlib import contextmanager

from codemix_megatron.corpus.prepare import MAX_BAD_SHARE, prepare_recipe
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

Documents are .jsonl files (.gz and .zst too), text files, folders of sources, globs, python:text and
python:code. Exact duplicates and empty texts are left out; PREFIX.manifest.json lists what and where.
A corpus is prepared again only when its documents, the tokenizer or the held-out share have changed."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="YAML recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys to change, such as corpora.text.prefix=/data/text")
    parser.add_argument("--only", action="append", metavar="NAME", help="prepare this corpus; may be given more than once")
    parser.add_argument("--force", action="store_true", help="prepare again what is already prepared")
    parser.add_argument(
        "--max-bad-share", type=float, default=MAX_BAD_SHARE, metavar="X", help="most damaged documents to leave out (default %(default)s)"
    )


def run(arguments) -> None:
    """Prepare and print what there is."""
    if not 0 <= arguments.max_bad_share <= 1:
        raise RecipeError(f"--max-bad-share: found {arguments.max_bad_share}, allowed are 0 to 1")
    recipe = read_recipe(arguments.recipe, arguments.overrides)
    with reporting() as (progress, say):
        manifests = prepare_recipe(recipe, arguments.only, arguments.force, progress, max_bad_share=arguments.max_bad_share, say=say)
    print_summary(manifests)


@contextmanager
def reporting():
    """Give (progress, say): a bar on a terminal, a line per finished corpus elsewhere."""
    if not sys.stdout.isatty():
        yield ProgressLines().show, lambda line: print(line, flush=True)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        tasks = {}

        def show(done: int, total: int, description: str) -> None:
            if description not in tasks:
                tasks[description] = bar.add_task(description, total=total)
            bar.update(tasks[description], completed=done, total=total)

        yield show, lambda line: bar.console.print(line, highlight=False, markup=False, soft_wrap=True)


class ProgressLines:
    """Prints a line per corpus when it is read, and now and then before."""

    def __init__(self):
        self.description, self.done, self.told_at = None, -1, time.monotonic()

    def show(self, done: int, total: int, description: str) -> None:
        """Take the state of one corpus."""
        if (description, done) == (self.description, self.done):
            return
        self.description, self.done = description, done
        if done == total or time.monotonic() - self.told_at > SECONDS_BETWEEN_LINES:
            self.told_at = time.monotonic()
            print(f"{description}: read {done:,} of {total:,} bytes", flush=True)


def print_summary(manifests: dict[str, CorpusManifest]) -> None:
    """Print one row per corpus, their languages, and what was left out."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(corpus_table(manifests))
    for name, manifest in manifests.items():
        if manifest.languages:
            listed = ", ".join(f"{language} {100 * c['tokens'] / manifest.num_tokens:.1f} %" for language, c in manifest.languages.items())
            console.print(f"{name}: languages by tokens: {listed}", highlight=False, markup=False, soft_wrap=True)
        for reason, count in manifest.dropped.items():
            places = ", ".join(manifest.dropped_places.get(reason, [])[:2])
            console.print(f"{name}: left out {count} ({reason}): {places}", highlight=False, markup=False, soft_wrap=True)
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
            f"{manifest.num_bytes / manifest.num_tokens:.2f}",
            f"{sum(manifest.dropped.values()):,}",
        )
    return table
