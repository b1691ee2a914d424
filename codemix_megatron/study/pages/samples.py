"""Documents of the corpora and texts of the models, as the pages show them."""

from dataclasses import dataclass

from codemix_megatron.corpus.decoded_samples import decode_documents, draw_documents
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.tokenizers import tokenizer_of
from codemix_megatron.errors import CodemixError
from codemix_megatron.printable import printable
from codemix_megatron.records.item_scores import ItemScores
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.report.run_data import RunData

__all__ = ["DocumentSample", "Generation", "kept_generations", "sample_documents"]

MOST_CHARACTERS = 1200


@dataclass(frozen=True)
class DocumentSample:
    """The beginning of one document of a corpus."""

    corpus: str
    number: int
    about: str
    text: str


@dataclass(frozen=True)
class Generation:
    """What a variant wrote for one item of a task."""

    task: str
    item: int
    variant: str
    text: str


def sample_documents(name: str, manifest: CorpusManifest, count: int, seed: int) -> list[DocumentSample]:
    """Return the beginnings of documents drawn from a corpus; none where its files or its tokenizer are not there any more."""
    try:
        reader, tokenizer = IndexedReader(manifest.prefix), tokenizer_of(manifest.tokenizer)
        drawn = decode_documents(reader, manifest, tokenizer, draw_documents(reader, manifest, count, seed))
        return [
            DocumentSample(
                name,
                document.number,
                ", ".join(filter(None, (document.language, "held out" if document.is_held_out else None, f"{len(document.ids):,} tokens"))),
                beginning(document.text or ""),
            )
            for document in drawn
        ]
    except (CodemixError, OSError):
        return []


def kept_generations(run: RunData, most: int) -> list[Generation]:
    """Return texts that evaluations kept of a variant: of each task those of its first items, the newest evaluation's."""
    found: dict[str, list[Generation]] = {}
    for path in sorted((run.folder.scores / "items").glob("*.json"), key=lambda path: path.stat().st_mtime):
        try:
            items = ItemScores.read(path)
        except CodemixError:
            continue
        if items.texts:
            found[items.task] = [Generation(items.task, i, run.name, beginning(text)) for i, text in enumerate(items.texts[:most])]
    return [generation for of_task in found.values() for generation in of_task]


def beginning(text: str) -> str:
    """Return the beginning of a text without control characters."""
    return printable(text[:MOST_CHARACTERS]) + (" …" if len(text) > MOST_CHARACTERS else "")
