"""Mixtures beside a plain memmap slice and beside megatron-core's blended datasets, over the same files, in one run.

    python benchmarks/mixture.py [--tokens 20000000] [--sequences 20000]

Times are CPU-seconds of a process of its own for each contender, the best of three passes; the last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SEQUENCE_LENGTH = 2048
BATCH = 512
NUM_SOURCES = 200
TOTAL_TOKENS = 10**12


def main() -> None:
    """Make the files, run every contender, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=20_000_000, help="tokens of each of the two corpora")
    parser.add_argument("--sequences", type=int, default=18_000, help="sequences to read")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        measured = CONTENDERS[arguments.contender](arguments)
        print(json.dumps({**measured, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_corpora(Path(folder), arguments.tokens)
        found = {name: run_alone(name, folder, arguments) for name in CONTENDERS}
    report(found)


def report(found: dict) -> None:
    """Print what was measured, then the ratios against their targets as one line of JSON."""
    for name, measured in found.items():
        print(f"{name:<16}" + "  ".join(f"{key} {value:,.4g}" for key, value in measured.items()))
    ours, slice_, megatron = found["ours"], found["memmap slice"], found["megatron-core"]
    ratios = {
        "open_seconds": found["scale"]["open_seconds"],
        "open_mb": found["scale"]["peak_mb"] - found["nothing"]["peak_mb"],
        "locate_512_ms": found["scale"]["locate_512_ms"],
        "sequences_per_cpu_second_over_memmap_slice": ours["sequences_per_cpu_second"] / slice_["sequences_per_cpu_second"],
        "sequences_per_cpu_second_over_megatron": ours["sequences_per_cpu_second"] / megatron["sequences_per_cpu_second"],
        "build_seconds_over_megatron": ours["build_seconds"] / megatron["build_seconds"],
    }
    targets = {
        "open_seconds": "<= 1",
        "open_mb": "<= 100",
        "locate_512_ms": "<= 1",
        "sequences_per_cpu_second_over_memmap_slice": ">= 0.8",
        "sequences_per_cpu_second_over_megatron": ">= 1",
        "build_seconds_over_megatron": "<= 1",
    }
    met = all(ratios[k] <= float(t[3:]) if t[0] == "<" else ratios[k] >= float(t[3:]) for k, t in targets.items())
    print(json.dumps({"bench": "mixture", "ratios": {k: round(v, 4) for k, v in ratios.items()}, "targets": targets, "met": met}))


def write_corpora(folder: Path, num_tokens: int) -> None:
    """Write two corpora of random tokens in documents of a thousand, with manifests."""
    from codemix_megatron.corpus.indexed import IndexedWriter
    from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata

    draw = np.random.default_rng(0)
    metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=50_000, end_of_document_id=0)
    for name in ("a", "b"):
        prefix = str(folder / name)
        with IndexedWriter(prefix, np.uint16) as writer:
            for _ in range(num_tokens // 1000):
                writer.add(draw.integers(1, 50_000, 1000, dtype=np.uint16))
            writer.seal()
            writer.publish()
        counts = {"num_documents": num_tokens // 1000, "num_tokens": num_tokens, "num_bytes": 0}
        train = {"train_documents": num_tokens // 1000, "train_tokens": num_tokens, "train_bytes": 0}
        CorpusManifest(
            name=name, kind="text", prefix=prefix, dtype="uint16", **counts, **train, held_out_share=0.0, tokenizer=metadata,
            bin_sha256="", idx_sha256="", documents=[], input_fingerprint="",
        ).write()  # fmt: skip


def run_alone(name: str, folder: str, arguments) -> dict:
    """Run one contender in a process of its own, so that memory and imports are its own."""
    words = [sys.executable, __file__, "--contender", name, "--folder", folder]
    words += ["--tokens", str(arguments.tokens), "--sequences", str(arguments.sequences)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def passes(function, num_sequences: int) -> float:
    """Return sequences per CPU-second, the best of three passes after one to warm up."""
    function()
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return num_sequences / best


def nothing(arguments) -> dict:
    """What importing costs."""
    import codemix_megatron.mixture.mixture  # noqa: F401

    return {}


def scale(arguments) -> dict:
    """Open 200 sources and 1e12 tokens; locate 512 positions."""
    from codemix_megatron.mixture.budget import apportion
    from codemix_megatron.mixture.mixture import Mixture

    draw = np.random.default_rng(0)
    names = [f"source-{i}" for i in range(NUM_SOURCES)]
    sizes = draw.integers(10**5, 10**7, NUM_SOURCES)
    began = time.perf_counter()
    phases = [apportion(TOTAL_TOKENS // SEQUENCE_LENGTH // 3, dict(zip(names, draw.random(NUM_SOURCES), strict=True))) for _ in range(3)]
    mixture = Mixture(1, names, list(sizes), [list(p.values()) for p in phases])
    mixture.locate(np.arange(BATCH))
    opened = time.perf_counter() - began
    times = []
    for start in draw.integers(0, len(mixture) - BATCH, 50):
        began = time.perf_counter()
        mixture.locate(np.arange(start, start + BATCH))
        times.append(time.perf_counter() - began)
    return {"open_seconds": opened, "locate_512_ms": 1e3 * float(np.median(times)), "tokens": len(mixture) * SEQUENCE_LENGTH}


def memmap_slice(arguments) -> dict:
    """Copy random windows out of a memmap: what reading costs with no mixture at all."""
    tokens = np.memmap(Path(arguments.folder) / "a.bin", dtype=np.uint16, mode="r")
    windows = (arguments.tokens - 1) // SEQUENCE_LENGTH
    starts = (np.random.default_rng(1).integers(0, windows, arguments.sequences) * SEQUENCE_LENGTH).tolist()

    def read():
        for start in starts:
            np.array(tokens[start : start + SEQUENCE_LENGTH + 1])

    return {"sequences_per_cpu_second": passes(read, len(starts))}


def ours(arguments) -> dict:
    """Locate and read batches of 512 of a two-source mixture."""
    from codemix_megatron.mixture.budget import apportion
    from codemix_megatron.mixture.mixture import Mixture
    from codemix_megatron.mixture.sequence_reader import SequenceReader, num_windows
    from codemix_megatron.records.manifest import CorpusManifest

    began = time.perf_counter()
    manifests = [CorpusManifest.read(Path(arguments.folder) / name) for name in "ab"]
    windows = [num_windows(m.train_tokens, SEQUENCE_LENGTH) for m in manifests]
    counts = apportion(arguments.sequences, {"a": 0.7, "b": 0.3})
    mixture, reader = Mixture(1, ["a", "b"], windows, [list(counts.values())]), SequenceReader(manifests, SEQUENCE_LENGTH)
    built = time.perf_counter() - began

    def read():
        for first in range(0, len(mixture), BATCH):
            located = mixture.locate(np.arange(first, min(first + BATCH, len(mixture))))
            reader.read(located.source, located.sequence)

    return {"build_seconds": built, "sequences_per_cpu_second": passes(read, len(mixture))}


def megatron(arguments) -> dict:
    """Build and read the same blend through BlendedDataset and GPTDataset."""
    import torch.distributed as dist
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    dist.init_process_group("gloo", init_method=f"file://{arguments.folder}/group", rank=0, world_size=1)

    class Ids:
        eod, pad, vocab_size, unique_identifiers = 0, 0, 50_000, {"class": "ids"}

    config = GPTDatasetConfig(
        random_seed=1,
        sequence_length=SEQUENCE_LENGTH,
        blend=([str(Path(arguments.folder) / name) for name in "ab"], [0.7, 0.3]),
        split="1,0,0",
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        tokenizer=Ids(),
        path_to_cache=str(Path(arguments.folder) / "cache"),
    )
    began = time.perf_counter()
    dataset = BlendedMegatronDatasetBuilder(GPTDataset, [arguments.sequences, 0, 0], lambda: True, config).build()[0]
    built = time.perf_counter() - began

    def read():
        for i in range(arguments.sequences):
            dataset[i]

    return {"build_seconds": built, "sequences_per_cpu_second": passes(read, arguments.sequences)}


CONTENDERS = {"nothing": nothing, "scale": scale, "memmap slice": memmap_slice, "ours": ours, "megatron-core": megatron}

if __name__ == "__main__":
    main()
