"""What Megatron-LM's tools/preprocess_data.py does, under its flags, for JSON lines: every document, in order."""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.disk import explaining_write_faults
from codemix_megatron.corpus.documents import EMPTY, BadDocument
from codemix_megatron.corpus.indexed import IndexedWriter, token_dtype
from codemix_megatron.corpus.inputs import find_inputs
from codemix_megatron.corpus.tokenizers import DocumentTokenizer, load_tokenizer
from codemix_megatron.errors import CodemixError, CorpusError
from codemix_megatron.recipe.schema import CorpusSpec

__all__ = ["main", "write_documents"]

BATCH_DOCUMENTS = 512
BATCH_CHARACTERS = 4 << 20

EPILOG = """example:
  python tools/preprocess_data.py --input wiki.jsonl --output-prefix data/wiki --append-eod \\
      --tokenizer-type HuggingFaceTokenizer --tokenizer-model tokenizer.json --workers 8

Writes PREFIX_KEY_document.bin and .idx, byte for byte those of Megatron's tool, with one difference: a
special token spelled out inside a document stays text. A damaged line ends the command; nothing is written then.
`codemix prepare` leaves out duplicates and holds documents out for validation; this tool does neither."""


def main(argv: list[str] | None = None) -> int:
    """Read Megatron's flags, write one pair of files per JSON key; return the exit code."""
    arguments = build_parser().parse_args(argv)
    if arguments.workers:
        os.environ["RAYON_NUM_THREADS"] = str(arguments.workers)  # read by `tokenizers` when it first encodes
    try:
        tokenizer = load_megatron_tokenizer(arguments.tokenizer_type, arguments.tokenizer_model)
        for key in arguments.json_keys:
            prefix = f"{arguments.output_prefix}_{key}_document"
            documents, tokens = write_documents(arguments.input, key, prefix, tokenizer, append_eod=arguments.append_eod)
            print(f"{prefix}.bin: {documents} documents, {tokens} tokens")
    except CodemixError as error:
        sys.stderr.write(f"preprocess_data: error: {error}\n")
        return error.exit_code
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with Megatron's flags."""
    parser = argparse.ArgumentParser(
        prog="preprocess_data.py", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help="JSON lines, .gz or .zst too, or a glob of such files")
    parser.add_argument("--json-keys", nargs="+", default=["text"], help="keys to extract, each into files of its own")
    parser.add_argument("--output-prefix", required=True, help="path of the output without _KEY_document.bin")
    parser.add_argument("--tokenizer-type", required=True, choices=["HuggingFaceTokenizer", "SentencePieceTokenizer"])
    parser.add_argument("--tokenizer-model", required=True, help="tokenizer.json, the folder that holds it, or a sentencepiece .model")
    parser.add_argument("--append-eod", action="store_true", help="write the end-of-document id after each document")
    parser.add_argument("--workers", type=int, help="threads that tokenize; default: all cores")
    parser.add_argument("--log-interval", type=int, help="accepted and ignored")
    return parser


def load_megatron_tokenizer(tokenizer_type: str, model: str) -> DocumentTokenizer:
    """Load a tokenizer whose end of document is that of Megatron: the eos_token of the files beside it."""
    tokenizer = load_tokenizer(model, declared_eos(Path(model)) if tokenizer_type == "HuggingFaceTokenizer" else None)
    wanted = {"HuggingFaceTokenizer": "huggingface", "SentencePieceTokenizer": "sentencepiece"}[tokenizer_type]
    if tokenizer.card.type != wanted:
        raise CorpusError(f"{tokenizer.card.path}: is for {tokenizer.card.type}, --tokenizer-type is {tokenizer_type}; change one of them")
    return tokenizer


def declared_eos(model: Path) -> str | None:
    """Return the eos_token that the settings beside a tokenizer.json name, or None."""
    folder = model if model.is_dir() else model.parent
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            token = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token")
        except (OSError, ValueError, AttributeError):
            continue
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            return token
    return None


def write_documents(named: str, key: str, prefix: str, tokenizer: DocumentTokenizer, *, append_eod: bool) -> tuple[int, int]:
    """Write every document of the input and return (documents, tokens); raises CorpusError at the first damaged line."""
    inputs = find_inputs(CorpusSpec(documents=(named,), text_key=key), where="--input")
    with explaining_write_faults(f"{prefix}.bin"), IndexedWriter(prefix, token_dtype(tokenizer.vocab_size)) as writer:
        for texts in batches(file.read() for file in inputs):
            for ids in tokenizer.encode_batch(texts):
                # Megatron writes no end after a document without tokens, and counts it all the same.
                writer.add(np.append(ids, tokenizer.end_of_document_id) if append_eod and len(ids) else ids)
        writer.publish()
        return writer.num_documents, writer.num_tokens


def batches(files):
    """Yield the texts of all files in lists; an empty text stays one."""
    texts, characters = [], 0
    for documents in files:
        for document in documents:
            if isinstance(document, BadDocument) and document.reason != EMPTY:
                raise CorpusError(f"{document.place}: {document.reason}; mend or remove the line (nothing was written)")
            texts.append("" if isinstance(document, BadDocument) else document.text)
            characters += len(texts[-1])
            if len(texts) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                yield texts
                texts, characters = [], 0
    if texts:
        yield texts
