"""A corpus prepared with kill -9 at random moments and damage to random parts: the bytes of an undisturbed run."""

import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# `CODEMIX_DISTURBED_MEGABYTES=1000 pytest -m slow tests/unit/corpus/test_disturbed.py` for a corpus of the size that matters.
MEGABYTES = int(os.environ.get("CODEMIX_DISTURBED_MEGABYTES", "60"))
KILLS, DAMAGES = 20, 5
RECIPE = """
name: disturbed
model: {num_layers: 1, hidden_size: 64, num_attention_heads: 1, sequence_length: 64}
batch: {global_sequences: 1}
tokenizer: {path: %s}
corpora: {x: {kind: code, documents: [documents.jsonl], prefix: out/x}}
evaluation: {held_out_share: 0.01}
phases: [{name: only, tokens: 1K, mixture: {x: 1.0}, learning_rate: {peak: 1e-3}}]
"""


def write_documents(path: Path, texts: list[str]) -> None:
    """Write JSON lines of about MEGABYTES, every document different but for one in a hundred."""
    written = 0
    with open(path, "w", encoding="utf-8") as lines:
        for number, text in zip(itertools.count(), itertools.cycle(texts)):
            written += lines.write(json.dumps({"text": f"{text} {number - (number % 100 == 0)}", "lang": ["go", "c"][number % 2]}) + "\n")
            if written >= MEGABYTES * 10**6:
                return


def command(folder: Path, prefix: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "codemix_megatron", "prepare", "recipe.yaml", "--workers", "2", f"corpora.x.prefix={prefix}"]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def checksums(folder: Path, prefix: str) -> list[str]:
    def checksum(path: Path) -> str:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    return [checksum(folder / f"{prefix}{suffix}") for suffix in (".bin", ".idx", ".languages.npy")]


def damage_a_part(folder: Path, draw: random.Random) -> str | None:
    """Overwrite 1 to 1000 bytes of a file of a finished part."""
    done = list(folder.glob("out/.disturbed.parts-*/*.done"))
    if not done:
        return None
    victim = draw.choice(sorted(draw.choice(sorted(done)).parent.glob(f"{draw.choice(sorted(done)).stem}.*")))
    data = bytearray(victim.read_bytes())
    begin = draw.randrange(max(1, len(data)))
    for offset in range(begin, min(len(data), begin + draw.randrange(1, 1000))):
        data[offset] ^= 0x55
    victim.write_bytes(data)
    return victim.name


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_a_corpus_killed_and_damaged_at_random_is_the_undisturbed_one(tmp_path, shared_data, tokenizer_path, measured):
    texts = [json.loads(line)["text"][:20_000] for line in (shared_data / "code/web_code.jsonl").read_text().splitlines()[:3000]]
    write_documents(tmp_path / "documents.jsonl", texts)
    (tmp_path / "recipe.yaml").write_text(RECIPE % tokenizer_path)
    began = time.monotonic()
    undisturbed = command(tmp_path, "out/undisturbed")
    assert undisturbed.wait() == 0, undisturbed.stdout.read()
    seconds, wanted = time.monotonic() - began, checksums(tmp_path, "out/undisturbed")
    draw, killed, finished, damaged, remade = random.Random(5), 0, 0, [], 0
    for _ in range(20 * KILLS):
        if killed >= KILLS and len(damaged) >= DAMAGES and finished:
            break
        process = command(tmp_path, "out/disturbed")
        if killed < KILLS or len(damaged) < DAMAGES:
            try:
                process.wait(draw.uniform(0.1, max(2.0, 0.4 * seconds)))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
        out = process.communicate()[0]
        remade += out.count("is made again")
        if process.returncode == 0:
            assert checksums(tmp_path, "out/disturbed") == wanted
            finished += 1
            for path in (tmp_path / "out").glob("disturbed.*"):
                path.unlink()
        else:
            assert process.returncode == -signal.SIGKILL, out
            if len(damaged) < DAMAGES and (name := damage_a_part(tmp_path, draw)):
                damaged.append(name)
    measured(f"{MEGABYTES} MB, {seconds:.0f} s: killed {killed} times, damaged {damaged}, {remade} parts made again, finished {finished}")
    assert killed >= KILLS and len(damaged) == DAMAGES and remade >= 1 and finished
