"""Folders of a company -> what of them is which kind of corpus: git repositories, tickets, wiki pages, notebooks.

Files of git repositories, their histories and notebooks are read where they lie; pages and tickets are written as JSON lines beside the recipe, pages
as Markdown, tickets as the threads that `issues:` reads.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.filters import load_filters
from codemix_megatron.readers.documents import BadDocument
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.readers.source_files import is_wanted, walk_folder
from codemix_megatron.readers.ticket_exports import TICKET_FORMS, TicketForm, form_of, read_tickets, thread_of
from codemix_megatron.readers.wiki_pages import HTML_SUFFIXES, read_page
from codemix_megatron.recipe.filtering import FilterSpec
from codemix_megatron.recipe.schema import CorpusSpec
from codemix_megatron.records.atomic import json_line, writing

__all__ = ["Found", "Sorted", "found_corpora", "shares", "sort_files", "survey_corpus", "write_markup", "write_pages", "write_tickets"]

PAGE_SUFFIXES = (*HTML_SUFFIXES, ".md", ".markdown", ".rst", ".txt")
TICKET_SUFFIXES = (".json", ".jsonl", ".ndjson")
PERSONAL = ("email", "ip", "key")
Progress = Callable[[str], None]


@dataclass
class Sorted:
    """What was found, by what it is; `left` counts files that are none of it, by suffix or reason."""

    repositories: list[Path] = field(default_factory=list)
    pages: list[Path] = field(default_factory=list)
    tickets: list[Path] = field(default_factory=list)
    notebooks: list[Path] = field(default_factory=list)
    left: Counter = field(default_factory=Counter)


@dataclass
class Found:
    """A corpus as it would be: its spec, and counts of its documents, in all and of those that the filters keep."""

    name: str
    spec: CorpusSpec
    about: str
    documents: int = 0
    num_bytes: int = 0
    languages: Counter = field(default_factory=Counter)  # bytes
    licences: Counter = field(default_factory=Counter)  # bytes
    personal: Counter = field(default_factory=Counter)  # masks
    left: Counter = field(default_factory=Counter)  # reason -> documents
    faults: list[str] = field(default_factory=list)  # inputs that cannot be read


def sort_files(paths: list[Path], is_mapped: bool = False) -> Sorted:
    """Return what lies in folders; raises CorpusError for one that is not there. With a mapping of fields, all JSON is tickets."""
    found = Sorted()
    for path in paths:
        if not path.exists():
            raise CorpusError(f"{path}: nothing is there; give folders, or files of an export")
        sort_below(path, found, is_mapped)
    return found


def sort_below(path: Path, found: Sorted, is_mapped: bool) -> None:
    """Sort a repository as a whole, the files of any other folder one by one."""
    if path.is_dir() and (path / ".git").exists():
        found.repositories.append(path)
        found.notebooks += [file for file in walk_folder(path) if file.suffix == ".ipynb"]
    elif path.is_dir():
        inside = sorted(path.iterdir())
        for entry in inside:
            if not entry.name.startswith(".") and not entry.is_symlink():
                sort_below(entry, found, is_mapped)
    else:
        sort_file(path, found, is_mapped)


def sort_file(path: Path, found: Sorted, is_mapped: bool) -> None:
    """Sort one file that is in no repository."""
    suffix = path.suffix.lower()
    if suffix in PAGE_SUFFIXES:
        found.pages.append(path)
    elif suffix == ".ipynb":
        found.notebooks.append(path)
    elif suffix in TICKET_SUFFIXES and (is_mapped or any(form_of(record) for record in read_tickets(path)[:1])):
        found.tickets.append(path)
    else:
        found.left[suffix or "no suffix"] += 1


def write_pages(pages: list[Path], output: Path, left: Counter) -> int:
    """Write pages as JSON lines of Markdown; count in `left` those that give none. Return how many were written."""
    return write_lines(markdown_of(pages, left), output)


def markdown_of(pages: list[Path], left: Counter) -> Iterator[dict]:
    """Yield the record of each page."""
    for path in pages:
        page = read_page(path)
        if isinstance(page, BadDocument):
            left[f"page: {page.reason}"] += 1
        else:
            yield {"text": page[1], "title": page[0], "language": "markdown", "source": str(path)}


def write_tickets(exports: list[Path], output: Path, left: Counter, form: TicketForm | None = None) -> int:
    """Write tickets as JSON lines of threads, by a mapping or by what system they look to be of; count in `left` what is none."""
    return write_lines(threads_of(exports, left, form), output)


def threads_of(exports: list[Path], left: Counter, form: TicketForm | None) -> Iterator[dict]:
    """Yield the thread of each ticket."""
    for record in (record for path in exports for record in read_tickets(path)):
        known = form or TICKET_FORMS.get(form_of(record) or "")
        thread = thread_of(record, known) if known else None
        if thread is None:
            left["ticket without a title"] += 1
        else:
            yield thread


def write_markup(repositories: list[Path], output: Path) -> int:
    """Write the markup of repositories as JSON lines, for no folder can be in two corpora. Return how many were written."""
    return write_lines(markup_of(repositories), output)


def markup_of(repositories: list[Path]) -> Iterator[dict]:
    """Yield the record of each file of markup."""
    for folder in repositories:
        if any(is_wanted(path, "markup") for path in walk_folder(folder)):
            inputs = find_inputs(CorpusSpec(kind="markup", documents=(str(folder),)), where="markup")
            for document in (document for file in inputs for document in file.read() if not isinstance(document, BadDocument)):
                yield {"text": document.text, "language": document.language, "license": document.licence, "source": folder.name}


def write_lines(records: Iterable[dict], output: Path) -> int:
    """Write records as JSON lines; return how many."""
    count = 0
    with writing(output) as handle:
        for count, record in enumerate(records, 1):  # noqa: B007
            handle.write(json_line(record))
    return count


def found_corpora(found: Sorted, pages: Path | None, tickets: Path | None, markup: Path | None, filters: dict | None = None) -> list[Found]:
    """Return the corpora of what was found, not counted yet."""
    personal = FilterSpec(personal_data=PERSONAL, **(filters or {}))
    code = FilterSpec(personal_data=PERSONAL, generated_by=True, **(filters or {}))
    repositories = [str(path) for path in found.repositories]
    made = []
    if repositories:
        made += [
            Found("code", CorpusSpec(kind="code", documents=tuple(repositories), filters=code), "files of git repositories"),
            Found("commits", CorpusSpec(kind="code_adjacent", documents=tuple(f"git:{path}" for path in repositories), filters=personal), "their histories"),
        ]  # fmt: skip
    if markup is not None:
        made.append(Found("markup", CorpusSpec(kind="markup", documents=(str(markup),), filters=code), "markup in the same repositories"))
    if found.notebooks:
        made.append(
            Found(
                "notebooks",
                CorpusSpec(kind="code_adjacent", documents=tuple(map(str, found.notebooks)), filters=personal),
                "notebooks as scripts",
            )
        )
    if tickets is not None:
        made.append(
            Found("tickets", CorpusSpec(kind="code_adjacent", documents=(f"issues:{tickets}",), filters=personal), "tickets as threads")
        )
    if pages is not None:
        made.append(Found("wiki", CorpusSpec(kind="text", documents=(str(pages),), filters=personal), "pages of the wiki as Markdown"))
    return made


def survey_corpus(corpus: Found, progress: Progress = lambda name: None) -> Found:
    """Count what a corpus would hold and leave out, by reading all of it; entries without a document of its kind are taken out."""
    filters, kept = load_filters(corpus.spec.filters), []
    for named in corpus.spec.documents:
        try:
            inputs = find_inputs(replace(corpus.spec, documents=(named,)), where=corpus.name)
        except CorpusError as fault:
            corpus.faults.append(str(fault))
            continue
        kept.append(named)
        for file in inputs:
            progress(file.name)
            for document in file.read():
                count(corpus, document if isinstance(document, BadDocument) else filters.apply(document))
    corpus.spec = replace(corpus.spec, documents=tuple(kept))
    return corpus


def count(corpus: Found, document) -> None:
    """Count one document, or why there is none."""
    if isinstance(document, BadDocument):
        corpus.left[document.reason] += 1
        return
    size = len(document.text.encode("utf-8", "replace"))
    corpus.documents += 1
    corpus.num_bytes += size
    corpus.languages[document.language or "unknown"] += size
    corpus.licences[document.licence or "unknown"] += size
    corpus.personal.update(what.removesuffix(" masked") for what in document.rewritten if what.endswith(" masked"))


def shares(counts: Counter, most: int = 6) -> Iterator[str]:
    """Yield names with their shares, the largest first."""
    whole = max(1, counts.total())
    for name, amount in counts.most_common(most):
        yield f"{name} {100 * amount / whole:.0f} %"
