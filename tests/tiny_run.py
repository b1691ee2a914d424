"""A recipe that trains in seconds, corpora made from a seed, and `codemix` as a user calls it."""

import contextlib
import functools
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from forked_commands import Started, start_server
from patience import PATIENCE_SECONDS

from codemix_megatron.placement import LAUNCHER_VARIABLES
from codemix_megatron.ports import reserve_port

REPOSITORY = Path(__file__).resolve().parents[1]
STARTS_RANKS = ("train", "study")

RECIPE = {
    "name": "tiny",
    "seed": 7,
    "model": {
        "num_layers": 4,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_query_groups": 2,
        "ffn_hidden_size": 128,
        "sequence_length": 64,
    },
    "parallel": {"device": "cpu", "timeout_seconds": 45, "threads_per_rank": 1},
    "batch": {"global_sequences": 8, "micro_sequences": 2},
    "tokenizer": {"path": "tokenizer.json", "train_vocab_size": 512},
    "corpora": {
        "prose": {"kind": "text", "documents": ["prose.jsonl"]},
        "snippets": {"kind": "code", "documents": ["snippets.jsonl"]},
    },
    "phases": [
        {
            "name": "balanced",
            "tokens": 12 * 512,
            "mixture": {"prose": 0.5, "snippets": 0.5},
            "learning_rate": {"schedule": "cosine", "peak": 0.003, "final": 0.001, "warmup_tokens": 1024},
        },
        {
            "name": "cooldown",
            "tokens": 8 * 512,
            "mixture": {"prose": 0.8, "snippets": 0.2},
            "learning_rate": {"schedule": "linear", "peak": 0.001, "final": 1e-6},
        },
    ],
    "evaluation": {"held_out_share": 0.1, "held_out_sequences": 4, "items": 8},
    "observers": {"console_every_steps": 5},
}
WORDS = [
    "the",
    "a",
    "model",
    "reads",
    "code",
    "and",
    "text",
    "in",
    "phases",
    "while",
    "its",
    "loss",
    "falls",
    "slowly",
    "or",
    "does",
    "not",
    "fall",
    "at",
    "all",
    "because",
    "rates",
    "differ",
]


def make_documents(folder: Path) -> None:
    """Write a few hundred documents of prose and of code, the same on every machine."""
    draw = random.Random(0)
    prose = [" ".join(draw.choices(WORDS, k=draw.randint(20, 120))).capitalize() + "." for _ in range(200)]
    snippets = [
        f"def f{n}(x, y={draw.randint(0, 99)}):\n    for i in range({draw.randint(2, 50)}):\n        x = x * {draw.randint(2, 9)} + y - i\n    return x\n"
        for n in range(300)
    ]
    for name, documents in {"prose": prose, "snippets": snippets}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")


@dataclass
class Tiny:
    """Prepared corpora, the recipe over them, and where runs go."""

    folder: Path

    @property
    def recipe(self) -> Path:
        """The recipe's file."""
        return self.folder / "recipe.yaml"

    def codemix(self, *words, env=None, timeout: float = PATIENCE_SECONDS, in_full: bool = False) -> subprocess.CompletedProcess:
        """Run one command to its end; one that starts ranks is forked after the imports, unless asked for as a user starts it (`in_full`)."""
        if words[0] in STARTS_RANKS and env is None and not in_full:
            return self.forked(*words, timeout=timeout)
        command = [sys.executable, "-m", "codemix_megatron", *map(str, words)]
        return subprocess.run(
            command, cwd=self.folder, env={**clean_environment(), **(env or {})}, capture_output=True, text=True, timeout=timeout
        )

    def forked(self, *words, timeout: float) -> subprocess.CompletedProcess:
        """Run one command to its end, forked after the imports."""
        process = Started(forking_server(), list(map(str, words)), self.folder, clean_environment())
        try:
            out, errors = process.communicate(timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(words, process.returncode, out, errors)

    def codemix_here(self, *words) -> subprocess.CompletedProcess:
        """Run one command that starts no ranks in this process, which has imported torch already: ten CPU-seconds less."""
        from codemix_megatron.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(word) for word in words])
            except SystemExit as end:  # argparse's
                code = end.code
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def train(self, run: str, *words, **options) -> subprocess.CompletedProcess:
        """Train into the run folder of that name."""
        return self.codemix("train", self.recipe, "--folder", self.folder / run, *words, **options)

    def train_here(self, run: str, *words) -> subprocess.CompletedProcess:
        """Ask in this process for a training that ends before ranks start, refused or finished already."""
        return self.codemix_here("train", self.recipe, "--folder", self.folder / run, *words)

    def start_training(self, run: str, *words) -> Started:
        """Start training and return at once."""
        command = ["train", str(self.recipe), "--folder", str(self.folder / run), *words]
        return Started(forking_server(), command, self.folder, clean_environment(), merged=True)

    def events(self, run: str, kind: str = "step") -> list[dict]:
        """Return a run's journal events of one kind."""
        path = self.folder / run / "journal.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [e for e in events if e["event"] == kind]

    def losses(self, run: str) -> list[float]:
        """Return the loss of every step."""
        return [e["loss"] for e in self.events(run)]

    def rewind(self, run: str, new: str, step: int) -> Path:
        """Copy a run as it was when it had saved `step` and was then killed."""
        old, copy = self.folder / run, self.folder / new
        shutil.copytree(old, copy, ignore=shutil.ignore_patterns("logs", "trackers"))
        for checkpoint in (copy / "checkpoints").glob("step-*"):
            if int(checkpoint.name.split("-")[1]) > step:
                shutil.rmtree(checkpoint)
        lines = (copy / "journal.jsonl").read_text().splitlines(True)
        (copy / "journal.jsonl").write_text("".join(line for line in lines if '"event": "end"' not in line))
        return copy

    def wait_for_step(self, run: str, step: int) -> None:
        """Wait until the journal holds a step."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not any(e["step"] >= step for e in self.events(run)):
            assert time.monotonic() < deadline, f"{run} did not reach step {step} within {PATIENCE_SECONDS} s"
            time.sleep(0.05)


def clean_environment() -> dict:
    """Return this environment without what a launcher may have left in it; the checkout is importable."""
    kept = {k: v for k, v in os.environ.items() if k not in LAUNCHER_VARIABLES}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@functools.cache
def forking_server() -> str:
    """Return the address of this process's own forking process."""
    return start_server(clean_environment())


def ranks_of(run: Path) -> list[int]:
    """Return the process ids of a run's ranks, by rank: those that write into its logs."""
    pids = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                output = os.readlink(entry / "fd" / "1")
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if output.startswith(f"{run}/logs/") and name.startswith("codemix rank "):
                pids[int(name.rpartition(" ")[2])] = int(entry.name)
    return [pids[rank] for rank in sorted(pids)]


held_ports: list[socket.socket] = []  # open until the tests have ended


def held_port() -> int:
    """Return a port that nobody but ranks started by these tests can listen on."""
    held_ports.append(reserve_port())
    return held_ports[-1].getsockname()[1]


def kill(pid: int) -> None:
    """Kill a process as the machine would."""
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    """Prepared corpora and a recipe over them."""
    made = Tiny(tmp_path_factory.mktemp("tiny"))
    make_documents(made.folder)
    made.recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    prepared = made.codemix("prepare", made.recipe)
    assert prepared.returncode == 0, prepared.stderr
    return made
