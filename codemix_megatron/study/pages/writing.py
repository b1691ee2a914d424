"""Writes the pages of studies into one folder that any web server, or a browser from the disk, shows."""

import json
from collections.abc import Callable
from html import escape
from importlib import resources
from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.report.arms import group_arms
from codemix_megatron.report.page import html_page
from codemix_megatron.report.run_report import write_report_of
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.wording import join_words, plural, short_count
from codemix_megatron.study.pages.contents import StudyContents, read_contents
from codemix_megatron.study.pages.mixtures import mixtures_of
from codemix_megatron.study.pages.samples import DocumentSample, Generation, kept_generations, sample_documents
from codemix_megatron.study.pages.study_page import study_sections

__all__ = ["write_pages"]


def write_pages(folders: list, output: Path, *, samples: int, seed: int = 0, progress: Callable[[str], None] = lambda name: None) -> Path:
    """Write the pages of begun studies into `output`; return index.html's path.

    `samples` documents of each corpus and texts of each task are shown; with 0 none are. `progress` is called with the name of each
    study before it is read. Raises CodemixError where a folder is no study, or the pages cannot be written.
    """
    studies: list[StudyContents] = []
    found: list[dict] = []
    try:
        for folder in folders:
            progress(str(folder))
            contents = read_contents(folder, {study.name for study in studies})
            found += write_study(contents, output / contents.name, samples, seed)
            studies.append(contents)
        replace_text(output / "index.html", index_page(studies, found))
    except OSError as fault:
        raise CodemixError(f"{output}: the pages cannot be written there ({fault.strerror or fault}); give another --output") from None
    return (output / "index.html").absolute()


def write_study(contents: StudyContents, folder: Path, samples: int, seed: int) -> list[dict]:
    """Write a study's page and its report; return what a search should find of it."""
    view = StudyView(group_arms(contents.variants), contents.variants, contents.choices, contents.bases)
    write_report_of(contents.variants, folder / "report", contents.choices, contents.bases, view)
    known = {name: manifest for name, manifest in contents.corpora.items() if manifest is not None}
    documents = [d for name, manifest in known.items() for d in (sample_documents(name, manifest, samples, seed) if samples else [])]
    generations = [g for run in contents.variants for g in (kept_generations(run, samples) if samples else [])]
    text = page_with_data(
        contents.name,
        f"{plural(len(contents.variants), 'variant')} on {join_words(contents.corpora)}",
        study_sections(contents, view, documents, generations),
        {"mixtures": mixtures_of(contents.variants)},
        eyebrow='<a href="../index.html">all studies</a>',
    )
    replace_text(folder / "index.html", text)
    return search_entries(contents, documents, generations)


def search_entries(contents: StudyContents, documents: list[DocumentSample], generations: list[Generation]) -> list[dict]:
    """Return what can be found by words: the study, its variants, corpora, documents and generations, each with its link."""
    page = f"{contents.name}/index.html"
    entries = [{"kind": "study", "title": contents.name, "text": "", "href": page}]
    for run in contents.variants:
        entries.append({"kind": "variant", "title": run.name, "text": run.recipe_text, "href": f"{page}#recipe-{run.folder.path.name}"})
    for name, manifest in contents.corpora.items():
        about = " ".join([manifest.kind, *manifest.languages, *manifest.documents]) if manifest else ""
        entries.append({"kind": "corpus", "title": name, "text": about, "href": f"{page}#corpora"})
    for document in documents:
        title = f"{document.corpus} {document.number}"
        entries.append({"kind": "document", "title": title, "text": document.text, "href": f"{page}#corpora"})
    for generation in generations:
        title = f"{generation.task} {generation.item}, {generation.variant}"
        entries.append({"kind": "generation", "title": title, "text": generation.text, "href": f"{page}#generations"})
    return [{**entry, "study": contents.name} for entry in entries]


def index_page(studies: list[StudyContents], found: list[dict]) -> str:
    """Return the first page: a search over everything, and a card for each study."""
    cards = "".join(
        f'<a class="study" href="{escape(study.name, quote=True)}/index.html"><b>{escape(study.name)}</b>'
        f"<span>{plural(len(study.variants), 'variant')}, {short_count(sum(run.tokens for run in study.variants))} tokens</span>"
        f"<small>{escape(', '.join(run.name for run in study.variants[:6]))}{' …' if len(study.variants) > 6 else ''}</small></a>"
        for study in studies
    )
    search = '<label class="search" hidden>Search <input type="search" placeholder="variants, recipes, corpora, documents"></label><ol class="found"></ol>'
    sections = [("studies", "Studies", f'{search}<div class="studies">{cards}</div>')]
    return page_with_data("Studies", "What was tried, on which data, and what came of it", sections, {"search": found})


def page_with_data(title: str, lead: str, sections: list[tuple[str, str, str]], data: dict, eyebrow: str = "") -> str:
    """Return a page of sections (anchor, title, HTML) with the script of these pages and what it works on."""
    read = lambda name: resources.files("codemix_megatron.study.pages").joinpath(name).read_text(encoding="utf-8")  # noqa: E731
    plain = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no text of a document ends the script
    scripts = f'<script type="application/json" id="data">{plain}</script>\n<script>\n{read("pages.js")}</script>\n'
    return html_page(title, lead, sections, eyebrow=eyebrow, style=read("pages.css"), scripts=scripts, records="the runs")
