"""codemix corpora init: the corpora block of a recipe from a company's folders."""

import sys
from dataclasses import replace
from pathlib import Path

from codemix_megatron.errors import CorpusError, RecipeError

__all__ = ["add_arguments", "run"]

PARTS = ("title", "body", "author", "comments", "comment_body", "comment_author", "url")

EPILOG = """examples:
  codemix corpora init ours --from ~/src ~/exports/confluence ~/exports/jira.json
  codemix corpora init ours --from ~/exports/tickets.json --map title=subject --map body=fields.text --map comments=notes --map comment_body=text

Looks through folders for git repositories, exports of tickets (GitHub, GitLab, Jira; others by --map), pages (Confluence's HTML, Markdown, text) and
notebooks, reads all of it, and writes DIR/corpora.yaml: the corpora block of a recipe, with counts by kind, language and licence, the personal data
found, and what would be left out. Pages, tickets and markup in repositories become DIR/wiki.jsonl, tickets.jsonl and markup.jsonl; the rest is read
where it lies."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="init")
    init = actions.add_parser(
        "init", help="write the corpora block for what lies in folders", epilog=EPILOG, formatter_class=parser.formatter_class
    )
    init.add_argument("directory", metavar="DIR", help="folder to write corpora.yaml into")
    init.add_argument("--from", dest="paths", nargs="+", required=True, metavar="PATH", help="folders, repositories, exported files")
    init.add_argument(
        "--map", action="append", default=[], metavar="PART=KEYS", help=f"where tickets have {', '.join(PARTS)}: title=fields.summary"
    )
    init.add_argument("--permissive", action="store_true", help="leave out code whose licence is not permissive, or not known")


def run(arguments) -> None:
    """Sort, convert, count, write, print."""
    from codemix_megatron.cli.progress import progress_bar
    from codemix_megatron.corpus.company_folders import found_corpora, sort_files, survey_corpus
    from codemix_megatron.corpus.corpora_block import corpora_block

    directory, form = Path(arguments.directory), mapping_of(arguments.map)
    block = directory / "corpora.yaml"
    if block.exists():
        raise RecipeError(f"{block}: there already; give another DIR")
    found = sort_files([Path(path).expanduser().resolve() for path in arguments.paths], is_mapped=form is not None)
    directory.mkdir(parents=True, exist_ok=True)
    corpora = found_corpora(found, *convert(found, directory.resolve(), form))
    if arguments.permissive:
        corpora = [permissive(corpus) for corpus in corpora]
    with progress_bar("corpora") as bar:
        task = bar.add_task("reading", total=len(corpora))
        for corpus in corpora:
            survey_corpus(corpus, lambda name, corpus=corpus: bar.update(task, description=f"{corpus.name}: {name}"[:60]))  # type: ignore[misc]
            bar.advance(task)
    corpora = [corpus for corpus in corpora if corpus.documents]
    if not corpora:
        raise CorpusError(
            f"{', '.join(arguments.paths)}: no repository, page, ticket or notebook with text in it; left: {dict(found.left)}"
        )
    block.write_text(corpora_block(corpora, found.left), encoding="utf-8")
    print_found(corpora, found.left, block)


def mapping_of(pairs: list[str]) -> dict[str, str] | None:
    """Return the parts of a thread and where tickets have them; None where nothing is said."""
    if not pairs:
        return None
    form = {part: keys for part, _, keys in (pair.partition("=") for pair in pairs)}
    if wrong := [f"{part}={keys}" for part, keys in form.items() if part not in PARTS or not keys]:
        raise CorpusError(f"--map {wrong[0]}: needs PART=KEYS with a part of {', '.join(PARTS)}")
    if "title" not in form:
        raise CorpusError("--map: needs title=KEYS, such as title=fields.summary")
    return form


def convert(found, directory: Path, form) -> tuple[Path | None, Path | None, Path | None]:
    """Write pages, tickets and the markup of repositories as JSON lines; return their files, None where there are none."""
    from codemix_megatron.corpus.company_folders import write_markup, write_pages, write_tickets

    pages, tickets, markup = directory / "wiki.jsonl", directory / "tickets.jsonl", directory / "markup.jsonl"
    has_markup = bool(found.repositories) and write_markup(found.repositories, markup) > 0
    has_pages = bool(found.pages) and write_pages(found.pages, pages, found.left) > 0
    has_tickets = bool(found.tickets) and write_tickets(found.tickets, tickets, found.left, form) > 0
    return pages if has_pages else None, tickets if has_tickets else None, markup if has_markup else None


def permissive(corpus):
    """Return a corpus that leaves out what is not under a permissive licence; of what a company wrote itself nothing says one."""
    if corpus.name in ("code", "markup"):
        corpus.spec = replace(corpus.spec, filters=replace(corpus.spec.filters, licences=("permissive",)))
    return corpus


def print_found(corpora, left, block: Path) -> None:
    """Print a row for each corpus, and what is left out."""
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.corpus.company_folders import shares

    table = Table("corpus", "kind", "documents", "MB", "languages", "personal data", "left out")
    for corpus in corpora:
        personal = ", ".join(f"{name} {count:,}" for name, count in corpus.personal.most_common())
        row = (f"{corpus.documents:,}", f"{corpus.num_bytes / 1e6:.2f}", ", ".join(shares(corpus.languages, 3)), personal)
        table.add_row(corpus.name, corpus.spec.kind, *row, f"{corpus.left.total():,}")
    Console().print(table)
    if left:
        sys.stdout.write(f"not read: {', '.join(f'{name} {count:,}' for name, count in left.most_common(12))}\n")
    sys.stdout.write(f"{block}\n")
