"""`codemix prepare` beside its limit and its peers, in CPU-seconds of all processes and peak memory.

Run by `make bench-prepare`; ends with one line of JSON. Every entry is a command of its own, measured from its start to
its end. What is slow runs on a slice and is scaled: cost(0 documents) + megabytes x (cost(slice) - cost(0)) / slice.

    --megatron FOLDER    a checkout of Megatron-LM, for its tools/preprocess_data_fast.py; needs gigatoken
    --megatron-python P  the Python that has what it needs (default: this one; PYTHONPATH is handed on)
    --datatrove P        a Python that has datatrove
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("CODEMIX_SHARED", REPOSITORY.parent / "shared")) / "data"
TARGETS = {
    "pool_over_prepare": ("at least", 10.0),
    "prepare_over_megatron_fast": ("at most", 0.4),
    "prepare_throughput_over_limit": ("at least", 0.8),
    "peak_megabytes": ("at most", 1024.0),
}

# The chosen tokenizer and JSON parsing alone: nothing is kept, nothing is written.
LIMIT = """
import sys, time, orjson
from fastokens._native import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[2])
texts, characters, seconds = [], 0, 0.0
def encode():
    global texts, characters, seconds
    began = time.process_time()
    tokenizer.encode_batch_flat(texts, False, True)
    seconds += time.process_time() - began
    texts, characters = [], 0
for line in open(sys.argv[1], "rb"):
    texts.append(orjson.loads(line)["text"])
    characters += len(texts[-1])
    if characters > 2 << 20:
        encode()
encode()
print(seconds)
"""

# What Megatron-LM's tools/preprocess_data.py does per document, without its imports: a pool that sends lists of ids back.
POOL = """
import json, multiprocessing, sys
import numpy as np
from tokenizers import Tokenizer
def start(path):
    global tokenizer
    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
def encode(line):
    return tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids + [0], len(line)
if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as lines, open(sys.argv[3], "wb") as out:
        pool = multiprocessing.get_context("fork").Pool(2, start, (sys.argv[2],))
        for ids, _ in pool.imap(encode, lines, 32):
            out.write(np.array(ids, dtype=np.uint16).tobytes(order="C"))
        pool.close()
        pool.join()
"""

DATATROVE = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import MegatronDocumentTokenizer
import os
folder, name = os.path.split(sys.argv[1])
LocalPipelineExecutor(pipeline=[
    JsonlReader(folder, glob_pattern=name, text_key="text"),
    MegatronDocumentTokenizer(output_folder=sys.argv[3], tokenizer_name_or_path=sys.argv[2], eos_token="<|endoftext|>"),
], tasks=1, logging_dir=sys.argv[3] + "/logs").run()
"""

RECIPE = """
name: benchmark
model: {{num_layers: 1, hidden_size: 64, num_attention_heads: 1, sequence_length: 64}}
batch: {{global_sequences: 1}}
tokenizer: {{path: {tokenizer}}}
corpora: {{x: {{kind: code, documents: ['{input}'], prefix: '{prefix}'}}}}
phases: [{{name: only, tokens: 1K, mixture: {{x: 1.0}}, learning_rate: {{peak: 1e-3}}}}]
"""


def main() -> None:
    """Measure and print a line each, then the JSON."""
    arguments = parse()
    folder = Path(tempfile.mkdtemp(prefix="codemix-prepare-"))
    try:
        bench = Bench(arguments, folder)
        bench.run()
        print(json.dumps(bench.summary()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parse():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200.0, help="of JSON lines (default %(default)s)")
    parser.add_argument("--slice", type=float, default=6.0, help="megabytes for what is slow (default %(default)s)")
    parser.add_argument("--megatron", type=Path)
    parser.add_argument("--megatron-python", default=sys.executable)
    parser.add_argument("--datatrove")
    return parser.parse_args()


class Bench:
    """Inputs, and what each command took."""

    def __init__(self, arguments, folder: Path):
        self.arguments, self.folder, self.rows = arguments, folder, {}
        self.megabytes = arguments.megabytes
        self.input, self.double, self.slice, self.empty = (folder / f"{name}.jsonl" for name in ("whole", "double", "slice", "empty"))
        write_input(self.input, self.megabytes)
        write_input(self.double, 2 * self.megabytes)
        write_input(self.slice, arguments.slice)
        write_input(self.empty, 0.0)
        self.tokenizers = {"gpt2": make_gpt2(folder / "gpt2"), "trained-32k": train(folder / "trained", self.input)}

    def run(self) -> None:
        """Measure everything, ours twice: what else the machine does shows in the difference."""
        python = [sys.executable, "-W", "ignore"]
        for name, tokenizer in self.tokenizers.items():
            if tokenizer is None:
                continue
            for _ in range(2):
                self.measure(f"limit {name}", [*python, "-c", LIMIT, self.input, tokenizer])
                self.measure(f"prepare {name}", self.prepare_command(self.input, tokenizer))
        name, tokenizer = next((n, t) for n, t in self.tokenizers.items() if t is not None)
        self.measure(f"prepare {name}, twice the input", self.prepare_command(self.double, tokenizer))
        tool = [
            *python,
            REPOSITORY / "tools/preprocess_data.py",
            "--input",
            self.input,
            "--output-prefix",
            self.folder / "tool",
            "--append-eod",
        ]
        self.measure("tools/preprocess_data.py", [*tool, "--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", tokenizer])
        (self.folder / "pool.py").write_text(POOL)
        self.measure_scaled(
            "Megatron-style pool", lambda path: [*python, self.folder / "pool.py", path, tokenizer, self.folder / "pool.bin"]
        )
        self.run_peers(tokenizer)

    def run_peers(self, tokenizer: Path) -> None:
        """Measure what is not part of this project, where it is there."""
        if self.arguments.megatron:
            script = self.arguments.megatron / "tools/preprocess_data_fast.py"
            command = [self.arguments.megatron_python, "-W", "ignore", script, "--input", self.input, "--append-eod", "--use-gigatoken"]
            command += [
                "--output-prefix",
                self.folder / "fast",
                "--tokenizer-type",
                "HuggingFaceTokenizer",
                "--tokenizer-model",
                tokenizer.parent,
            ]
            self.measure("Megatron-LM preprocess_data_fast.py", command)
            pairs = [[self.folder / f"{made}_text_document{suffix}" for made in ("tool", "fast")] for suffix in (".bin", ".idx")]
            same = all(ours.read_bytes() == theirs.read_bytes() for ours, theirs in pairs)
            print(f"  files of tools/preprocess_data.py and of preprocess_data_fast.py equal: {same}")
        else:
            print("Megatron-LM preprocess_data_fast.py: not compared (--megatron FOLDER)")
        if self.arguments.datatrove:
            python, out = self.arguments.datatrove, self.folder / "datatrove"
            self.measure_scaled("datatrove", lambda path: [python, "-c", DATATROVE, path, tokenizer, f"{out}-{path.stem}"])
        else:
            print("datatrove: not compared (--datatrove PYTHON)")

    def prepare_command(self, path: Path, tokenizer: Path) -> list:
        """Return the command a user types, for a fresh corpus."""
        recipe = self.folder / f"{path.stem}.yaml"
        recipe.write_text(RECIPE.format(tokenizer=tokenizer, input=path, prefix=self.folder / "prepared" / path.stem))
        return [sys.executable, "-m", "codemix_megatron", "prepare", recipe, "--force"]

    def measure(self, name: str, command: list) -> None:
        """Run a command and keep its least CPU-seconds and its largest memory."""
        cpu, peak, printed = run_measured(command)
        row = self.rows.setdefault(name, {"cpu": cpu, "peak": peak, "printed": printed})
        row["cpu"], row["peak"] = min(row["cpu"], cpu), max(row["peak"], peak)
        print(f"{name:40} {cpu:8.2f} CPU-s {self.megabytes / cpu:8.1f} MB per CPU-s, peak {peak:6.0f} MB", flush=True)

    def measure_scaled(self, name: str, command_for) -> None:
        """Run a slow command on next to nothing and on a slice; keep what the whole would take."""
        start, _, _ = run_measured(command_for(self.empty))
        cpu, peak, _ = run_measured(command_for(self.slice))
        whole = start + self.megabytes * (cpu - start) / self.arguments.slice
        self.rows[name] = {"cpu": whole, "peak": peak}
        print(f"{name:40} {whole:8.2f} CPU-s {self.megabytes / whole:8.1f} MB per CPU-s, peak {peak:6.0f} MB"
              f" (scaled from {self.arguments.slice:g} MB: {cpu:.2f} CPU-s, start {start:.2f})", flush=True)  # fmt: skip

    def summary(self) -> dict:
        """Return ratios, targets and whether they are met."""
        rows, name = self.rows, next(n for n, t in self.tokenizers.items() if t is not None)
        prepare = rows[f"prepare {name}"]["cpu"]
        fast = rows.get("Megatron-LM preprocess_data_fast.py")
        ratios = {
            "pool_over_prepare": rows["Megatron-style pool"]["cpu"] / prepare,
            "prepare_over_megatron_fast": prepare / fast["cpu"] if fast else None,
            "peak_megabytes": max(row["peak"] for key, row in rows.items() if key.startswith("prepare")),
        }
        met = {}
        for key, tokenizer in self.tokenizers.items():
            if tokenizer is not None:
                ratios[f"prepare_throughput_over_limit {key}"] = rows[f"limit {key}"]["cpu"] / rows[f"prepare {key}"]["cpu"]
        for key, ratio in ratios.items():
            side, target = TARGETS[key.split(" ")[0]]
            met[key] = None if ratio is None else ratio >= target if side == "at least" else ratio <= target
        return {
            "benchmark": "prepare",
            "megabytes": self.megabytes,
            "cpu_seconds": {key: round(row["cpu"], 2) for key, row in rows.items()},
            "peak_megabytes": {key: round(row["peak"]) for key, row in rows.items()},
            "ratios": {key: ratio and round(ratio, 3) for key, ratio in ratios.items()},
            "targets": {key: f"{side} {target:g}" for key, (side, target) in TARGETS.items()},
            "met": met,
        }


def run_measured(command: list) -> tuple[float, float, str]:
    """Return CPU-seconds of a command and the processes it waited for, its peak memory (PSS of all of them) in MB, its output.

    The memory is looked at ten times a second: the largest that the kernel notes (ru_maxrss) begins with that of this process, which forked it.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # installed packages are compiled, and so should ours be
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=REPOSITORY, text=True, env=environment
    )
    watched, peak = psutil.Process(process.pid), 0.0
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        peak = max(peak, tree_megabytes(watched))
        time.sleep(0.1)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(str(word)[:80] for word in command)} failed:\n{printed[-3000:]}")
    return usage.ru_utime + usage.ru_stime, peak, printed


def tree_megabytes(root: psutil.Process) -> float:
    """Return the memory of a process and all below it, shared pages counted once."""
    total = 0
    for process in [root, *children(root)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, FileNotFoundError):
            continue
    return total / 1e6


def children(root: psutil.Process) -> list[psutil.Process]:
    """Return the living processes below one."""
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


def source_texts():
    """Return (text, language) of the data beside the project, or of Python's standard library."""
    paths = sorted(SHARED.glob("text/*.jsonl")) + sorted(SHARED.glob("code/*.jsonl"))
    records = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    if records:
        return [(record["text"], record.get("lang")) for record in records]
    library = Path(os.__file__).parent
    return [(path.read_text(encoding="utf-8", errors="ignore"), "python") for path in sorted(library.rglob("*.py"))]


def write_input(path: Path, megabytes: float) -> None:
    """Write JSON lines: texts of all corpora in turn, over and over under another first line, so that none is a duplicate."""
    texts = source_texts()
    random.Random(1).shuffle(texts)
    size, turn = 0, 0
    with open(path, "w", encoding="utf-8") as lines:
        while True:
            for text, language in texts:
                size += lines.write(json.dumps({"text": f"{turn}\n{text}", "lang": language}, ensure_ascii=False) + "\n")
                if size >= megabytes * 1e6:
                    return
            turn += 1


def make_gpt2(folder: Path) -> Path | None:
    """Return GPT-2's tokenizer as a tokenizer.json; None without its files."""
    source = SHARED / "tokenizers/gpt2"
    if not source.is_dir():
        return None
    from codemix_megatron.corpus.tokenizers import load_gpt2_tokenizer

    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(load_gpt2_tokenizer(source / "vocab.json", source / "merges.txt").model_bytes)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}')
    return folder / "tokenizer.json"


def train(folder: Path, path: Path) -> Path:
    """Return a tokenizer of this package's kind, trained on every thirtieth document."""
    from codemix_megatron.corpus.tokenizers import train_tokenizer

    folder.mkdir()
    with open(path, encoding="utf-8") as lines:
        train_tokenizer([json.loads(line)["text"] for i, line in enumerate(lines) if i % 30 == 0], 32_000, folder / "tokenizer.json")
    return folder / "tokenizer.json"


if __name__ == "__main__":
    main()
