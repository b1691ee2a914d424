"""Labels of documents: JSON lines by hand, or what a teacher behind an endpoint answers.

A line holds `document`, a number in the corpus, or `text` itself; and `label`, a number such as 0 to 5, or true and false.
"""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson

from codemix_megatron.errors import CorpusError
from codemix_megatron.inference.endpoints import ChatEndpoint
from codemix_megatron.records.appended_lines import complete_lines, end_last_line
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.scoring.scoring_run import ScoredCorpus

__all__ = ["ask_for_labels", "read_labels"]

PROMPT = """Below is {what}. Judge how much a student of programming or of its subject would learn from it, from 0 to 5:
0: nothing: generated, broken, or mere data; 1: little; 2: some, but it is hard to follow or has no explanation; 3: it is clear and useful;
4: it is well written, explained and self-contained; 5: outstanding: a textbook could print it.

{text}

End your answer with a line `Score: N`."""
ANSWER = re.compile(r"[Ss]core\D{0,5}([0-5])")
SHOWN_CHARACTERS = 6000
SEED = 20240820


def read_labels(path, corpus: ScoredCorpus) -> tuple[list[str], list[float]]:
    """Return texts and labels; raises CorpusError naming the line that holds none."""
    texts: list[str] = []
    labels: list[float] = []
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as fault:
        raise CorpusError(f"{path}: cannot be read ({fault.strerror})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
            label = float(record["label"])
            text = record["text"] if "text" in record else text_of(corpus, int(record["document"]))
        except (ValueError, KeyError, TypeError, IndexError) as fault:
            raise CorpusError(
                f"{path}:{number}: no label ({type(fault).__name__}: {fault}); a line is"
                ' {"document": NUMBER, "label": 0 to 5} or {"text": ..., "label": ...}'
            ) from None
        texts.append(text)
        labels.append(label)
    return texts, labels


def text_of(corpus: ScoredCorpus, number: int) -> str:
    """Return the text of a document."""
    return corpus.documents([number]).texts[0].decode("utf-8", "replace")


def ask_for_labels(
    manifest: CorpusManifest, count: int, endpoint: ChatEndpoint, path, threads: int = 8, on_label: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Ask about `count` documents drawn by a fixed seed, adding lines to a file; return labels there and replies without a number.

    Documents that the file has are not asked about again.
    """
    corpus = ScoredCorpus(manifest)
    drawn = np.random.default_rng(SEED).permutation(manifest.train_documents)[:count].tolist()
    known = known_documents(path)
    waiting = [number for number in drawn if number not in known]
    failed = 0
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as handle, ThreadPoolExecutor(threads) as pool:
        asked = [(number, text_of(corpus, number), corpus.languages[number]) for number in waiting]
        for (number, _, _), label in zip(asked, pool.map(lambda item: ask(endpoint, item[1], item[2]), asked), strict=True):
            failed += label is None
            if label is not None:
                handle.write(json.dumps({"document": number, "label": label}).encode() + b"\n")
                handle.flush()
            on_label()
    return len(known_documents(path)), failed


def known_documents(path) -> set[int]:
    """Return the documents a file of labels has; a torn last line is cut off, one that lacks its end alone is kept."""
    if not Path(path).is_file():
        return set()
    end_last_line(Path(path))
    return {record["document"] for record in map(orjson.loads, filter(None, complete_lines(path))) if "document" in record}


def ask(endpoint: ChatEndpoint, text: str, language: str) -> int | None:
    """Return the number a teacher gives a document, None where its reply has none; raises EvaluationError where there is no reply."""
    what = f"a document in {language}" if language else "a document"
    reply = endpoint.complete(PROMPT.format(what=what, text=text[:SHOWN_CHARACTERS]))
    found = ANSWER.findall(reply.text)
    return int(found[-1]) if found else None
