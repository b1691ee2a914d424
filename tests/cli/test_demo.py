"""`codemix demo` with fewer tokens: the whole road, stopped and resumed once."""

import json

import pytest
from patience import PATIENCE_SECONDS

pytestmark = pytest.mark.distributed

SMALLER = [f"phases.{i}.tokens={tokens}" for i, tokens in enumerate(("16K", "8K", "8K"))]
SMALLER += ["phases.0.learning_rate.warmup_tokens=4K", "evaluation.items=8", "tokenizer.train_vocab_size=512"]


@pytest.mark.slow  # continuous integration runs `make demo` itself, or this where it cannot
def test_demo_walks_the_whole_road_and_goes_on_where_it_was(tiny, tmp_path):
    folders = {}
    for name, suffix in (("prose", "txt"), ("snippets", "py")):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        for i, line in enumerate((tiny.folder / f"{name}.jsonl").read_text().splitlines()):
            (folders[name] / f"{i}.{suffix}").write_text(json.loads(line)["text"] * 3)
    words = ["demo", "--directory", tmp_path / "demo", "--text", folders["prose"], "--code", folders["snippets"], *SMALLER]
    words += ["corpora.text.max_epochs=50", "corpora.code.max_epochs=50", "model.sequence_length=64", "batch.global_sequences=16"]
    done = tiny.codemix(*words, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "demo" / "run"
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events].count("stop") == 1
    starts = [e["step"] for e in events if e["event"] == "start"]
    assert starts[0] == 0 and next(e["step"] for e in events if e["event"] == "stop") in starts[1:]
    assert events[-1]["event"] == "end"
    steps = [e["step"] for e in events if e["event"] == "step"]
    assert steps == list(range(1, events[-1]["step"] + 1)), "a step is missing or was made twice"
    assert f"file://{run / 'report' / 'index.html'}" in done.stdout and (run / "report" / "index.html").is_file()
    again = tiny.codemix(*words, timeout=PATIENCE_SECONDS)
    assert again.returncode == 0 and "already trained" in again.stdout
    assert (run / "journal.jsonl").read_text().count('"start"') == len(starts), "a finished run was started again"
