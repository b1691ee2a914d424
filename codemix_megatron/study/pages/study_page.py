"""The page of one study, as HTML."""

from collections.abc import Iterable
from html import escape
from itertools import groupby

from codemix_megatron.report.blocks import Cell, Table
from codemix_megatron.report.page import block_html
from codemix_megatron.report.study import variant_blocks
from codemix_megatron.report.study_view import StudyView
from codemix_megatron.report.wording import count, plural, short_count
from codemix_megatron.study.pages.contents import StudyContents
from codemix_megatron.study.pages.lineage import lineage_svg
from codemix_megatron.study.pages.mixtures import mixture_bars, mixtures_of
from codemix_megatron.study.pages.samples import DocumentSample, Generation

__all__ = ["study_sections"]


def study_sections(
    contents: StudyContents, view: StudyView, documents: list[DocumentSample], generations: list[Generation]
) -> list[tuple[str, str, str]]:
    """Return (anchor, title, HTML) of a study's sections."""
    lineage = f'<div class="scroll" tabindex="0" role="region" aria-label="lineage">{lineage_svg(contents)}</div>'
    return [
        ("grid", "Variants", grid(view)),
        ("lineage", "Lineage", lineage),
        ("mixtures", "Mixtures", mixture_explorer(contents)),
        ("corpora", "Corpora", block_html(corpora_table(contents)) + document_cards(documents)),
        *([("generations", "Generations", generation_cards(generations))] if generations else []),
        ("recipes", "Recipes", recipes(contents)),
    ]


def grid(view: StudyView) -> str:
    """Return variants by measures with verdicts, as the report has them, and where the report is."""
    links = '<p><a href="report/index.html">The whole report</a>, <a href="report/decision.html">the page to decide by</a></p>'
    return links + "".join(map(block_html, variant_blocks(view)))


def mixture_explorer(contents: StudyContents) -> str:
    """Return the bars of all variants, and two lists to choose from; the page's script fills in the comparison."""
    mixtures = mixtures_of(contents.variants)
    names = list(mixtures)
    compare = f'<div class="compare" hidden>{choice("compare", names, names[0])}{choice("with", names, names[-1])}<div class="result"></div></div>'
    return compare + mixture_bars(mixtures)


def choice(label: str, names: list[str], chosen: str) -> str:
    """Return a list of variants to choose from."""
    options = "".join(
        f'<option{" selected" if name == chosen else ""} value="{escape(name, quote=True)}">{escape(name)}</option>' for name in names
    )
    return f"<label>{label} <select>{options}</select></label>"


def corpora_table(contents: StudyContents) -> Table:
    """Return a row for every corpus that the variants read."""
    rows: list[list] = []
    for name, manifest in contents.corpora.items():
        if manifest is None:
            rows.append([name, Cell("not there any more", tone="quiet"), "", "", ""])
            continue
        languages = ", ".join(sorted(manifest.languages, key=lambda language: -manifest.languages[language]["tokens"])[:5])
        left_out = f"{plural(sum(manifest.dropped.values()), 'document')} left out" if manifest.dropped else ""
        documents = Cell(count(manifest.num_documents), below=left_out)
        rows.append(
            [name, Cell(manifest.kind, below=languages), documents, short_count(manifest.num_bytes), short_count(manifest.num_tokens)]
        )
    return Table(headings=["corpus", "kind", "documents", "bytes", "tokens"], rows=rows, left=(0, 1))


def document_cards(documents: list[DocumentSample]) -> str:
    """Return documents of each corpus, folded, with their text as it is."""
    parts = []
    for corpus, group in groupby(documents, key=lambda document: document.corpus):
        cards = "".join(card(f"{document.corpus} {document.number}", document.about, document.text) for document in group)
        parts.append(f"<details><summary>documents of {escape(corpus)}</summary>{cards}</details>")
    return "".join(parts)


def generation_cards(generations: Iterable[Generation]) -> str:
    """Return what the variants wrote, item beside item."""
    by_task = sorted(generations, key=lambda g: (g.task, g.item))
    parts = []
    for (task, item), group in groupby(by_task, key=lambda g: (g.task, g.item)):
        cards = "".join(card(generation.variant, "", generation.text) for generation in group)
        parts.append(f"<details><summary>{escape(task)}, item {item}</summary>{cards}</details>")
    return "".join(parts)


def card(title: str, about: str, text: str) -> str:
    """Return one text with a line above it."""
    return f'<article class="sample"><b>{escape(title)}</b> <small>{escape(about)}</small><pre>{escape(text)}</pre></article>'


def recipes(contents: StudyContents) -> str:
    """Return each variant's recipe, folded."""
    return "".join(
        f'<details id="recipe-{escape(run.folder.path.name, quote=True)}"><summary>{escape(run.name)}</summary>'
        f"<pre>{escape(run.recipe_text)}</pre></details>"
        for run in contents.variants
    )
