"""What Megatron-LM's tools/preprocess_data.py does, under its flags, for JSON lines: every document, in order."""

import argparse
import sys
from pathlib import Path

from codemix_megatron.corpus.damage_list import write_damaged
from codemix_megatron.corpus.disk import explaining_write_faults
from codemix_megatron.corpus.encoder_choice import choose_encoder, sample_for_proof
from codemix_megatron.corpus.encoders import library_versions
from codemix_megatron.corpus.finishing import Finishing
from codemix_megatron.corpus.held_out import HeldOutRule
from codemix_megatron.corpus.indexed import IndexedWriter, token_dtype
from codemix_megatron.corpus.input_contents import finished_parts
from codemix_megatron.corpus.input_identity import fingerprint_inputs
from codemix_megatron.corpus.part_encoding import PartEncoding
from codemix_megatron.corpus.parts import PartsFolder, cut_into_parts
from codemix_megatron.corpus.tokenizers import DocumentTokenizer, HuggingFaceTokenizer, load_gpt2_tokenizer, load_tokenizer
from codemix_megatron.corpus.workers import encode_parts, worthwhile_workers
from codemix_megatron.errors import CodemixError, CorpusError
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.recipe.schema import CorpusSpec

__all__ = ["main"]

MAX_BAD_SHARE = 0.001
TOKENIZER_TYPES = ("HuggingFaceTokenizer", "SentencePieceTokenizer", "GPTSentencePieceTokenizer", "Llama2Tokenizer", "GPT2BPETokenizer")

EPILOG = """examples:
  python tools/preprocess_data.py --input wiki.jsonl --output-prefix data/wiki --append-eod \\
      --tokenizer-type HuggingFaceTokenizer --tokenizer-model tokenizer.json --workers 8
  python tools/preprocess_data.py --input 'code/*.jsonl.gz' --json-keys text docstring --output-prefix data/code \\
      --tokenizer-type GPT2BPETokenizer --vocab-file vocab.json --merge-file merges.txt --append-eod

Writes PREFIX_KEY_document.bin and .idx, byte for byte those of Megatron's tool, with these differences: a special token
spelled out inside a document stays text; a damaged line is left out, counted and listed, and too many of them end the
command before anything is written; killed, the same command goes on where it was.
`codemix prepare` leaves out duplicates and holds documents out for validation; this tool does neither."""


def main(argv: list[str] | None = None) -> int:
    """Read Megatron's flags, write one pair of files per JSON key; return the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        check_arguments(arguments)
        tokenizer = load_megatron_tokenizer(arguments)
        for key in arguments.json_keys:
            write_key(arguments, key, tokenizer)
    except CodemixError as error:
        sys.stderr.write(f"preprocess_data: error: {error}\n")
        return error.exit_code
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with Megatron's flags."""
    parser = argparse.ArgumentParser(
        prog="preprocess_data.py", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--input", required=True, help="JSON lines, .gz or .zst too, or a glob of such files")
    add("--json-keys", nargs="+", default=["text"], help="keys to extract, each into files of its own")
    add("--output-prefix", required=True, help="path of the output without _KEY_document.bin")
    add("--tokenizer-type", required=True, choices=TOKENIZER_TYPES)
    add("--tokenizer-model", help="tokenizer.json, the folder that holds it, or a sentencepiece .model")
    add("--vocab-file", help="vocab.json of GPT2BPETokenizer")
    add("--merge-file", help="merges.txt of GPT2BPETokenizer")
    add("--tokenizer-hf-no-include-special-tokens", action="store_true", help="leave out what tokenizer.json adds to each text")
    add("--append-eod", action="store_true", help="write the end-of-document id after each document")
    add("--workers", type=int, help="most processes; one is started per 256 MB of input, at most one per core")
    add("--partitions", type=int, default=1, help="write documents in the order in which Megatron joins so many partitions")
    add("--keep-sequential-samples", action="store_true", help="keep the order of the input whatever the partitions")
    add("--max-bad-share", type=float, default=MAX_BAD_SHARE, help="most damaged lines to leave out (default %(default)s)")
    add("--log-interval", type=int, help="accepted and ignored")
    return parser


def check_arguments(arguments) -> None:
    """Raise CorpusError for values out of range and for missing files of a tokenizer."""
    for flag in ("workers", "partitions"):
        if (value := getattr(arguments, flag)) is not None and value < 1:
            raise CorpusError(f"--{flag}: found {value}, allowed are 1 and more")
    if not 0 <= arguments.max_bad_share <= 1:
        raise CorpusError(f"--max-bad-share: found {arguments.max_bad_share}, allowed are 0 to 1")
    gpt2 = arguments.tokenizer_type == "GPT2BPETokenizer"
    for flag in ("vocab_file", "merge_file") if gpt2 else ("tokenizer_model",):
        if getattr(arguments, flag) is None:
            raise CorpusError(f"--{flag.replace('_', '-')}: missing; {arguments.tokenizer_type} needs it")


def load_megatron_tokenizer(arguments) -> DocumentTokenizer:
    """Load a tokenizer whose ids and end of document are those of Megatron: the eos_token of the files beside it."""
    kind, model = arguments.tokenizer_type, arguments.tokenizer_model
    if kind == "GPT2BPETokenizer":
        return load_gpt2_tokenizer(arguments.vocab_file, arguments.merge_file)
    tokenizer = load_tokenizer(model)
    wanted = "huggingface" if kind == "HuggingFaceTokenizer" else "sentencepiece"
    if tokenizer.metadata.type != wanted:
        raise CorpusError(f"{tokenizer.metadata.path}: is for {tokenizer.metadata.type}, --tokenizer-type is {kind}; change one of them")
    if isinstance(tokenizer, HuggingFaceTokenizer):
        tokenizer.adds_special_tokens = not arguments.tokenizer_hf_no_include_special_tokens
    return tokenizer


def write_key(arguments, key: str, tokenizer: DocumentTokenizer) -> None:
    """Write the documents under one key; raises CorpusError when too many lines are damaged, and writes nothing then."""
    prefix = f"{arguments.output_prefix}_{key}_document"
    spec = CorpusSpec(documents=(arguments.input,), text_key=key)
    inputs = find_inputs(spec, where="--input")
    parts, dtype = cut_into_parts(inputs), token_dtype(tokenizer.vocab_size)
    end = tokenizer.end_of_document_id if arguments.append_eod else None
    of_tokenizer = (tokenizer.metadata.sha256, end, getattr(tokenizer, "adds_special_tokens", False), library_versions(tokenizer))
    folder = PartsFolder(prefix, repr((fingerprint_inputs(spec, inputs), of_tokenizer, len(parts))), dtype)
    with explaining_write_faults(f"{prefix}.bin"), folder.held(alone=True):
        encoder, encoder_metadata = choose_encoder(tokenizer, sample_for_proof(inputs))
        if encoder_metadata.refused:
            print(f"{prefix}: slow tokenizer {encoder_metadata.library}, for {encoder_metadata.refused}")
        work = PartEncoding(
            folder, parts, encoder, end, spec.kind, every_document=True, encoder_metadata=encoder_metadata, unknown=tokenizer.unknown
        )
        workers = worthwhile_workers(sum(file.num_bytes for file in inputs))
        done = finished_parts(folder, parts, range(len(parts)))
        encode_parts(work, [n for n in range(len(parts)) if n not in done], min(workers, arguments.workers or workers), lambda *_: None)
        finished = finished_parts(folder, parts, range(len(parts)))
        finishing = Finishing(folder, [finished[n] for n in range(len(parts))], parts, every_document=True)
        finishing.decide(HeldOutRule(0.0))
        check_damage(finishing, arguments.max_bad_share, Path(f"{prefix}.damaged.tsv"))
        lost, locations = finishing.unknown
        if lost:
            told = f"{lost['lost']} bytes or words of {lost['documents']} documents have no token and are lost"
            print(f"{prefix}: {told} ({', '.join(locations)})")
        with IndexedWriter(prefix, dtype) as writer:
            finishing.interleave(writer, 1 if arguments.keep_sequential_samples else arguments.partitions)
            writer.publish()
        folder.remove_all()
    print(f"{prefix}.bin: {writer.num_documents} documents, {writer.num_tokens} tokens")


def check_damage(finishing: Finishing, max_bad_share: float, listed: Path) -> None:
    """List the damaged lines; raise CorpusError when they are too many."""
    write_damaged(finishing, listed)
    dropped = finishing.dropped
    for reason, count in dropped.counts.items():
        print(f"left out {count} ({reason}): {', '.join(dropped.locations[reason])}")
    met = len(finishing.status) + dropped.counts.total()
    if dropped.num_damaged > max_bad_share * met:
        raise CorpusError(
            f"{dropped.num_damaged} of {met} lines are damaged, more than --max-bad-share {max_bad_share:g} allows"
            f" ({dropped.describe(harmless=False)}; all in {listed}); fix or remove them (nothing was written)"
        )
