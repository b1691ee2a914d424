"""What buckets of a score cost while sequences are read: CPU-seconds with and without, over the same corpus, in one run.

    python benchmarks/buckets.py [--sequences 20000]

Measured are locating and reading batches of 512 sequences of 2,048 tokens of a made corpus of documents of 200 to 6,000 tokens: without a table of
scores, with one beside the corpus that nothing asks for, drawn by four buckets, and packed best-fit, which reads pieces too. Best of five passes in
turns. The last line is JSON: what the table adds to reading, what buckets add to it and to a step that takes a second, and whether the first and
the last stay below 2 %.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.indexed import IndexedWriter
from codemix_megatron.corpus.score_table import write_scores
from codemix_megatron.mixture.buckets import Round, bucket_packing, documents_in_buckets
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import PackedReader, pack
from codemix_megatron.mixture.sequence_reader import SequenceReader, num_windows
from codemix_megatron.recipe.sources import Source
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata

LENGTH, BATCH, PASSES = 2048, 512, 5
TARGETS = {"table_adds_percent": 2.0, "percent_of_a_step_of_one_second": 2.0}
SPEC = Source(by="quality", buckets=(0.25, 0.5, 0.75), epochs=(0, 1, 3, 7))


def main() -> None:
    """Make a corpus, read it in every way, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--sequences", type=int, default=10_240)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways = make_ways(Path(folder), arguments.documents)
        seconds = {name: [] for name in ways}
        for _ in range(PASSES):
            for name, (order, reader) in ways.items():
                seconds[name].append(one_pass(order, reader, min(arguments.sequences, len(order))))
    best = {name: min(times) for name, times in seconds.items()}
    count = arguments.sequences
    for name, value in best.items():
        print(f"{name:34} {count / value:10,.0f} sequences per CPU-second, {1e6 * value / count:6.1f} microseconds each")
    plain, unused, buckets, packed = best.values()
    found = {
        "table_adds_percent": round(100 * (unused / plain - 1), 2),
        "buckets_over_windows": round(buckets / plain, 2),
        "buckets_over_best_fit": round(buckets / packed, 2),
        "percent_of_a_step_of_one_second": round(100 * (buckets - plain) / count * BATCH, 3),
    }
    print(json.dumps({"bench": "buckets", **found, "targets": TARGETS, "met": all(found[name] < most for name, most in TARGETS.items())}))


def make_ways(folder: Path, documents: int) -> dict:
    """Return name -> (data order, reader)."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(200, 6000, documents)
    with IndexedWriter(str(folder / "corpus"), np.uint16) as writer:
        writer.extend((draw.integers(0, 50000, n).astype(np.uint16).tobytes() for n in lengths), lengths)
        writer.seal()
        writer.publish()
    metadata = TokenizerMetadata(type="huggingface", path="none", sha256="", vocab_size=50000, end_of_document_id=0)
    total = int(lengths.sum())
    manifest = CorpusManifest(
        name="corpus", kind="code", prefix=str(folder / "corpus"), dtype="uint16", num_documents=documents, num_tokens=total, num_bytes=total,
        train_documents=documents, train_tokens=total, train_bytes=total, held_out_share=0.0, tokenizer=metadata, bin_sha256=writer.bin_sha256,
        idx_sha256=writer.idx_sha256, documents=[], input_fingerprint="",
    )  # fmt: skip
    windows, plain = num_windows(total, LENGTH), SequenceReader([manifest], LENGTH)
    scored = write_scores(manifest, {"quality": draw.random(documents)}, {"quality": {"by": "chance"}})
    packing, sequences = bucket_packing(scored, documents_in_buckets(scored, SPEC, ""), 5, LENGTH, best_fit=False)
    counts = [round(e * n) for e, n in zip((*SPEC.epochs, 0), sequences, strict=True)]
    packed = pack(scored, LENGTH)
    return {
        "windows, no scores": (order_of(windows), plain),
        "windows, scores beside the corpus": (order_of(windows), SequenceReader([scored], LENGTH)),
        "four buckets": (
            order_of(sum(sequences[1:]), sum(counts), {0: Round(counts, sequences)}),
            PackedReader([scored], LENGTH, packings=[packing]),
        ),
        "packed best-fit": (order_of(packed.num_sequences), PackedReader([scored], LENGTH, packings=[packed])),
    }


def order_of(sequences: int, draws: int | None = None, rounds=None) -> Mixture:
    """Return a phase over one source."""
    return Mixture(1, ["code"], [sequences], [[draws or sequences]], rounds=rounds)


def one_pass(order: Mixture, reader: SequenceReader, sequences: int) -> float:
    """Return the CPU-seconds of locating and reading so many."""
    began = time.process_time()
    for first in range(0, sequences, BATCH):
        located = order.locate(np.arange(first, min(first + BATCH, sequences)))
        reader.read(located.source, located.sequence, located.epoch)
    return time.process_time() - began


if __name__ == "__main__":
    main()
