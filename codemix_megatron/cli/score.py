"""codemix score: numbers for every document of a corpus, as columns beside it."""

import sys
from pathlib import Path

from codemix_megatron.cores import available_cores
from codemix_megatron.errors import CorpusError

__all__ = ["add_arguments", "run"]

GROUPS = ("shape", "comments", "lint", "parse", "complexity")
DEFAULT_GROUPS = ("shape", "comments")

EPILOG = """examples:
  codemix score corpora/web_code                                       its length, lines, letters, comments: 30 MB per CPU-second
  codemix score corpora/web_code --scores shape,comments,lint,parse    Python by ruff, all languages by tree-sitter
  codemix score corpora/web_code --perplexity models/SmolLM2-135M
  codemix score corpora/wiki --classifier models/fineweb-edu-classifier
  codemix score corpora/web_code --label 300 --endpoint http://localhost:8000/v1 --model teacher --labels labels.jsonl
  codemix score corpora/web_code --labels labels.jsonl --train quality.npz
  codemix score corpora/web_code --classifier quality.npz

shape: bytes, lines, mean_line, longest_line, letters. comments: comments, docstrings. lint (Python, by ruff): ruff_parses, lint,
complexity, most_complex. parse (ast for Python, tree-sitter): parses, parse_errors. complexity (lizard, two dozen languages, slow):
cyclomatic, most_cyclomatic. --perplexity: bits_per_byte, perplexity. --classifier: quality, or --column. Columns that are there already stay.
A recipe uses a column by `sources: {web_code: {by: quality, buckets: [...], epochs: [...]}}`. Stopped, the same command goes on."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("corpora", nargs="+", metavar="CORPUS", help="prefix of a prepared corpus, or one of its files")
    parser.add_argument(
        "--scores", metavar="GROUPS", help=f"of {', '.join(GROUPS)}; with commas, or none (default: {','.join(DEFAULT_GROUPS)})"
    )
    parser.add_argument("--perplexity", metavar="FOLDER", help="a Hugging Face causal language model")
    parser.add_argument("--classifier", metavar="FOLDER|FILE", help="a Hugging Face sequence classifier, or a file that --train wrote")
    parser.add_argument("--column", default="quality", metavar="NAME", help="column of the classifier (default %(default)s)")
    parser.add_argument(
        "--tokens", type=int, default=2048, metavar="N", help="most tokens --perplexity reads of a document (default %(default)s)"
    )
    parser.add_argument("--labels", metavar="FILE.jsonl", help="labels of documents, by hand or asked for by --label")
    parser.add_argument("--train", metavar="FILE.npz", help="train a linear classifier on --labels and write it")
    parser.add_argument(
        "--threshold", type=float, default=3, metavar="X", help="labels from which a document is a good one (default %(default)g)"
    )
    parser.add_argument("--label", type=int, metavar="N", help="ask a teacher about N documents of the corpus, into --labels")
    parser.add_argument("--endpoint", metavar="URL", help="the teacher's OpenAI-compatible server, up to and with /v1")
    parser.add_argument("--model", metavar="NAME", help="its name there")
    parser.add_argument("--threads", type=int, default=8, metavar="N", help="documents asked about at once (default %(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")


def run(arguments) -> None:
    """Label, train or score."""
    from codemix_megatron.corpus.corpus_check import corpus_prefix
    from codemix_megatron.records.manifest import CorpusManifest

    check(arguments)
    manifests = [CorpusManifest.read(prefix) for prefix in dict.fromkeys(corpus_prefix(name) for name in arguments.corpora)]
    if arguments.label:
        label(arguments, manifests[0])
    elif arguments.train:
        train(arguments, manifests[0])
    else:
        score(arguments, manifests)


def check(arguments) -> None:
    """Raise CorpusError for what does not go together."""
    if (arguments.label or arguments.train) and (len(arguments.corpora) > 1 or not arguments.labels):
        raise CorpusError("--label and --train: name one corpus, and --labels FILE.jsonl")
    if arguments.label and not (arguments.endpoint and arguments.model):
        raise CorpusError("--label: name the teacher: --endpoint URL --model NAME")
    for name in ("label", "workers", "threads", "tokens"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise CorpusError(f"--{name}: found {getattr(arguments, name)}, must be at least 1")
    if unknown := [name for name in groups_of(arguments) if name not in GROUPS]:
        raise CorpusError(f"--scores: found {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    if not arguments.column.isidentifier():
        raise CorpusError(f"--column: found {arguments.column!r}, needs letters, digits and underscores")


def groups_of(arguments) -> list[str]:
    """Return the groups of scores asked for; the cheap ones where nothing else is."""
    if arguments.scores is None:
        return [] if arguments.perplexity or arguments.classifier else list(DEFAULT_GROUPS)
    return [name.strip() for name in arguments.scores.split(",") if name.strip() not in ("", "none")]


def scorers_of(arguments) -> list:
    """Return what scores, in the order of the columns."""
    from codemix_megatron.scoring.complexity import FunctionComplexity
    from codemix_megatron.scoring.linear_classifier import LinearClassifier
    from codemix_megatron.scoring.linting import PythonLint
    from codemix_megatron.scoring.parsing import ParseErrors
    from codemix_megatron.scoring.text_shape import CommentShares, TextShape

    made = {"shape": TextShape, "comments": CommentShares, "lint": PythonLint, "parse": ParseErrors, "complexity": FunctionComplexity}
    scorers: list = [made[name]() for name in groups_of(arguments)]
    if arguments.perplexity:
        from codemix_megatron.scoring.perplexity import DocumentPerplexity

        scorers.append(DocumentPerplexity(arguments.perplexity, arguments.tokens))
    if arguments.classifier and Path(arguments.classifier).is_dir():
        from codemix_megatron.scoring.folder_classifier import FolderClassifier

        scorers.append(FolderClassifier(arguments.classifier, arguments.column))
    elif arguments.classifier:
        scorers.append(LinearClassifier(arguments.classifier, arguments.column))
    return scorers


def score(arguments, manifests) -> None:
    """Score corpora and print their columns."""
    from codemix_megatron.cli.progress import progress_bar
    from codemix_megatron.scoring.scoring_run import score_corpus

    scorers, written = scorers_of(arguments), []
    with progress_bar("tokens") as bar:
        task = bar.add_task("scoring", total=sum(manifest.num_tokens for manifest in manifests))
        for manifest in manifests:
            bar.update(task, description=Path(manifest.prefix).name)
            workers = arguments.workers or available_cores()
            written.append(score_corpus(manifest, scorers, workers, lambda tokens: bar.advance(task, tokens)))
    for manifest in written:
        print_columns(manifest)


def print_columns(manifest) -> None:
    """Print a line for each column: how many documents have it, and how it is spread."""
    import numpy as np
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.corpus.score_table import read_scores
    from codemix_megatron.records.manifest import scores_path

    table = Table("score", "documents", "1 in 10", "median", "9 in 10", "by", title=scores_path(manifest.prefix))
    for name, values in read_scores(manifest).items():
        known = values[~np.isnan(values)]
        quantiles = [f"{value:.4g}" for value in np.quantile(known, (0.1, 0.5, 0.9))] if len(known) else [""] * 3
        table.add_row(name, f"{len(known):,}", *quantiles, str(manifest.scores[name].get("by", "")))
    Console().print(table)


def label(arguments, manifest) -> None:
    """Ask for labels and say how many there are."""
    from codemix_megatron.cli.progress import progress_bar
    from codemix_megatron.inference.endpoints import ChatEndpoint
    from codemix_megatron.scoring.labels import ask_for_labels

    with progress_bar("documents") as bar:
        task = bar.add_task("asking", total=arguments.label)
        endpoint = ChatEndpoint(arguments.endpoint, arguments.model)
        there, failed = ask_for_labels(
            manifest, arguments.label, endpoint, arguments.labels, arguments.threads, lambda: bar.advance(task)
        )  # fmt: skip
    sys.stdout.write(f"{arguments.labels}: {there} labels" + (f"; {failed} replies held no number from 0 to 5" if failed else "") + "\n")


def train(arguments, manifest) -> None:
    """Train on labels and print how well it went."""
    from codemix_megatron.scoring.labels import read_labels
    from codemix_megatron.scoring.linear_classifier import train_linear
    from codemix_megatron.scoring.scoring_run import ScoredCorpus

    texts, labels = read_labels(arguments.labels, ScoredCorpus(manifest))
    model = train_linear(texts, [value >= arguments.threshold for value in labels], arguments.labels)
    model.write(arguments.train)
    about = model.about
    sys.stdout.write(
        f"{arguments.train}: {about['labels']} labels, {about['good']} from {arguments.threshold:g} on;"
        f" area under the curve {about['area_under_curve']:.3f} over five folds (0.5 is chance)\n"
    )
