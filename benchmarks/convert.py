"""Export and import beside a plain copy of the same bytes, in one run.

    python benchmarks/convert.py [--layers 20] [--rounds 3]

A checkpoint of about 1 GB is saved by four real ranks at tensor 2 x pipeline 2, exported, and imported back. Every
contender is a process of its own and brings its files to disk; what it reads is dropped from the page cache before.
Seconds count from after the imports to the finished folder; logits are not compared (--no-parity): that costs two
models, not a conversion. The last line is JSON.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

BLOCK_BYTES = 2**23
COPIES = {"export": "copy of the checkpoint", "import": "copy of the export"}


def main() -> None:
    """Make the checkpoint, run every contender in every round, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=20, help="layers of the model, an even number; 20 make about 1 GB in fp32")
    parser.add_argument("--rounds", type=int, default=3, help="times everything is measured")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(json.dumps(CONTENDERS[arguments.contender](Path(arguments.folder))))
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(name)
        save_checkpoint_on_four_ranks(folder, arguments.layers)
        report([one_round(folder, number) for number in range(1, arguments.rounds + 1)])


def one_round(folder: Path, number: int) -> dict:
    """Run every contender once, each beside its copy, and print what it took."""
    found = {}
    for name in ("copy of the checkpoint", "export", "copy of the export", "import"):
        for made in ("copied", "out" if name == "export" else "nothing", "back"):
            shutil.rmtree(folder / made, ignore_errors=True)
        drop_from_cache(folder)
        words = [sys.executable, __file__, "--contender", name, "--folder", str(folder)]
        began = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
        entry = found[name] = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"round {number}  {name:<23} {entry['mb']:7.0f} MB {entry['seconds']:6.2f} s {entry['mb'] / entry['seconds']:7.0f} MB/s"
            f"  CPU {entry['cpu_seconds']:5.2f} s  peak {entry['peak_mb']:5.0f} MB  whole command {time.perf_counter() - began:5.2f} s",
            flush=True,
        )
    return found


def drop_from_cache(folder: Path) -> None:
    """Bring all to disk and let the next reader fetch it from there."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as handle:
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report(rounds: list[dict]) -> None:
    """Print the median ratios against their targets as one line of JSON."""
    largest = max(entry["largest_tensor_mb"] for entry in rounds[0].values() if "largest_tensor_mb" in entry)
    limit = 2 * largest + 500
    ratios = {f"{name}_seconds_over_copy": median(r[name]["seconds"] / r[copy]["seconds"] for r in rounds) for name, copy in COPIES.items()}
    ratios |= {f"{name}_peak_mb": max(r[name]["peak_mb"] for r in rounds) for name in COPIES}
    targets = {f"{name}_seconds_over_copy": "<= 1.2" for name in COPIES} | {f"{name}_peak_mb": f"<= {limit:.0f}" for name in COPIES}
    met = {key: ratios[key] <= float(target[3:]) for key, target in targets.items()}
    print(
        json.dumps(
            {"bench": "convert", "ratios": {k: round(v, 3) for k, v in ratios.items()}, "targets": targets, "met": all(met.values())}
        )
    )


def save_checkpoint_on_four_ranks(folder: Path, layers: int) -> None:
    """Save a fresh model at tensor 2 x pipeline 2 as a run's step 0."""
    from tokenizers import Tokenizer, models

    vocabulary = {"<|endoftext|>": 0} | {f"w{i}": i for i in range(1, 32_000)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w1"))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", __file__]
    words += ["--contender", "one of four ranks", "--folder", str(folder)]
    done = subprocess.run(words, env={**os.environ, "BENCH_LAYERS": str(layers), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the checkpoint could not be saved:\n{done.stderr[-3000:]}")


def one_of_four_ranks(folder: Path) -> dict:
    """Build this rank's part of the model and save it."""
    from dataclasses import asdict, replace

    from codemix_megatron.checkpoint.writing import save_checkpoint
    from codemix_megatron.conversion.parity import model_recipe
    from codemix_megatron.corpus.tokenizers import load_tokenizer
    from codemix_megatron.model.build import build_model
    from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
    from codemix_megatron.recipe.schema import Model, Parallel, as_plain

    model = Model(
        num_layers=int(os.environ["BENCH_LAYERS"]), hidden_size=1024, num_attention_heads=16, num_query_groups=8,
        ffn_hidden_size=2816, sequence_length=2048,
    )  # fmt: skip
    parallel = Parallel(device="cpu", tensor=2, pipeline=2, threads_per_rank=1)
    ranks = join_ranks(parallel, 0)
    tokenizer = load_tokenizer(folder / "tokenizer.json").metadata
    built = build_model(replace(model_recipe(model), parallel=parallel), tokenizer.vocab_size, ranks.device)[0]
    metadata = {"step": 0, "sequences_seen": 0, "tokens": 0, "model": as_plain(model), "tokenizer": asdict(tokenizer)}
    save_checkpoint(folder / "run" / "checkpoints" / "step-0", {"model0": built.sharded_state_dict()}, metadata, ranks.device)
    leave_ranks()
    return {}


def now() -> tuple[float, float]:
    """Return the clock's and this process's seconds."""
    return time.perf_counter(), time.process_time()


def measured(began: tuple[float, float], read: Path) -> dict:
    """Return seconds and CPU-seconds since `began`, MB read and this process's peak memory."""
    seconds, cpu_seconds = (end - start for start, end in zip(began, now(), strict=True))
    size = sum(path.stat().st_size for path in read.iterdir()) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "mb": size, "peak_mb": peak}


def copy(source: Path, target: Path) -> dict:
    """Copy all files of a folder and bring them to disk."""
    began = now()
    target.mkdir()
    for path in source.iterdir():
        with open(path, "rb") as reading, open(target / path.name, "wb", buffering=0) as writing:
            shutil.copyfileobj(reading, writing, BLOCK_BYTES)
            os.fsync(writing.fileno())
    return measured(began, source)


def export(folder: Path) -> dict:
    """Export the checkpoint."""
    from codemix_megatron.conversion.export import ExportOptions, export_run
    from codemix_megatron.records.run_folder import RunFolder

    began = now()
    export_run(RunFolder(folder / "run"), output=folder / "out", options=ExportOptions(parity=False))
    return measured(began, folder / "run" / "checkpoints" / "step-0") | {"largest_tensor_mb": 32_000 * 1024 * 4 / 1e6}


def import_back(folder: Path) -> dict:
    """Import the export."""
    from codemix_megatron.conversion.importing import ImportOptions, import_model
    from codemix_megatron.corpus.tokenizers import load_tokenizer
    from codemix_megatron.recipe.pretrained import pretrained_model
    from codemix_megatron.recipe.schema import Parallel
    from codemix_megatron.records.run_folder import RunFolder

    parallel = Parallel(tensor=2, pipeline=2)
    began = now()
    model, tokenizer = pretrained_model(folder / "out", parallel), load_tokenizer(folder / "out" / "tokenizer.json").metadata
    import_model(folder / "out", RunFolder(folder / "back"), model, tokenizer, ImportOptions(parallel=parallel, parity=False))
    return measured(began, folder / "out")


CONTENDERS = {
    "one of four ranks": one_of_four_ranks,
    "copy of the checkpoint": lambda folder: copy(folder / "run" / "checkpoints" / "step-0", folder / "copied"),
    "export": export,
    "copy of the export": lambda folder: copy(folder / "out", folder / "copied"),
    "import": import_back,
}

if __name__ == "__main__":
    main()
