"""What scoring documents costs: MB of text per CPU-second of each score that needs no model, on one core.

    python benchmarks/score.py [--documents ../shared/data/code/web_code.jsonl]

Each row begins from the ids of a prepared corpus, so that the decoding is in it; processes that were started count too. `shape + comments` is
what `codemix score` does when nothing is named. The last line is JSON: the speeds, and which of them reach 20 MB per CPU-second.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_tokenizer, train_tokenizer
from codemix_megatron.recipe.schema import CorpusSpec
from codemix_megatron.scoring.complexity import FunctionComplexity
from codemix_megatron.scoring.linting import PythonLint
from codemix_megatron.scoring.parsing import ParseErrors
from codemix_megatron.scoring.scoring_run import ScoredCorpus
from codemix_megatron.scoring.text_shape import CommentShares, TextShape

WANTED, WAY = 20.0, "shape + comments"  # what is scored by default
SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
PASSES = 3
CHUNK_TOKENS = 1 << 21


class Decoding:
    """Decodes and gives nothing."""

    def score(self, documents):
        """Decode."""
        return documents.texts


def main() -> None:
    """Prepare a corpus, score it in several ways, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SHARED / "code/web_code.jsonl"
    parser.add_argument(
        "--documents", default=str(default) if default.is_file() else "python:code", help="JSON lines, a folder, or python:code"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(Path(folder), arguments.documents)
        ways = {
            "decoding alone": [Decoding()],
            "shape": [TextShape()],
            "comments": [CommentShares()],
            "shape + comments": [TextShape(), CommentShares()],
            "lint (Python, ruff)": [PythonLint()],
            "parse (ast, tree-sitter)": [ParseErrors()],
            "complexity (lizard)": [FunctionComplexity()],
        }
        speeds = {
            name: speed_of(corpus, scorers, most_chunks=1 if name.startswith(("parse", "complexity")) else None)
            for name, scorers in ways.items()
        }
    for name, speed in speeds.items():
        print(f"{name:28} {speed:8.1f} MB per CPU-second{'' if speed >= WANTED else f'   below {WANTED:g}'}")
    print(
        json.dumps(
            {"mb_per_cpu_second": {n: round(s, 1) for n, s in speeds.items()}, "targets": {WAY: WANTED}, "met": speeds[WAY] >= WANTED}
        )
    )


def make_corpus(folder: Path, documents: str) -> ScoredCorpus:
    """Prepare a corpus with a byte-level tokenizer of 32,000 ids trained on its beginning."""
    spec = CorpusSpec(kind="code", documents=(documents,), prefix=str(folder / "corpus"))
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(Path(os.__file__).parent.glob("*.py"))[:150]]
    train_tokenizer(texts, 32000, folder / "tokenizer.json")
    return ScoredCorpus(prepare_corpus("scored", spec, load_tokenizer(folder / "tokenizer.json"), HowToPrepare()), CHUNK_TOKENS)


def speed_of(corpus: ScoredCorpus, scorers, most_chunks: int | None = None) -> float:
    """Return MB per CPU-second, the best of three passes; documents of languages that a scorer does not know count not."""
    numbers = range(min(corpus.num_chunks, most_chunks or corpus.num_chunks))
    chunks = [
        [i for i in range(corpus.borders[n], corpus.borders[n + 1]) if not only_python(scorers) or corpus.languages[i] == "python"]
        for n in numbers
    ]
    num_bytes = sum(len(text) for chunk in chunks for text in corpus.documents(chunk).texts)
    return max(num_bytes / 1e6 / one_pass(corpus, scorers, chunks) for _ in range(1 if most_chunks else PASSES))


def only_python(scorers) -> bool:
    """Say whether a scorer reads nothing else."""
    return isinstance(scorers[0], PythonLint)


def one_pass(corpus: ScoredCorpus, scorers, chunks) -> float:
    """Return the CPU-seconds of one pass, those of processes that ended among them."""
    before = sum(os.times()[:4])
    for chunk in chunks:
        documents = corpus.documents(chunk)
        for scorer in scorers:
            scorer.score(documents)
    return max(0.01, sum(os.times()[:4]) - before)


if __name__ == "__main__":
    main()
