"""A run that draws on buckets of a score: stopped and resumed it is the same, bit for bit; journal and audit count its buckets."""

import json

import pytest
import yaml
from patience import PATIENCE_SECONDS
from tiny_run import RECIPE, Tiny, make_documents

pytestmark = [pytest.mark.distributed, pytest.mark.slow, pytest.mark.timeout(900)]
BUCKETS = "sources.snippets={by: bytes, quantiles: [0.3, 0.7], epochs: [0, 1, 3]}"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Corpora of their own with scores, and a run over buckets."""
    made = Tiny(tmp_path_factory.mktemp("scored"))
    make_documents(made.folder)
    made.recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    assert made.codemix("prepare", made.recipe).returncode == 0
    assert made.codemix("score", made.folder / "corpora" / "snippets", "--workers", "1").returncode == 0
    done = made.train("whole", BUCKETS, "checkpoint.every_steps=4", "checkpoint.keep_last=9", timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    return made


def test_a_stop_and_a_resume_are_bit_for_bit_the_same_and_buckets_are_counted(scored, measured):
    scored.rewind("whole", "cut", 8)
    done = scored.train("cut", BUCKETS, "checkpoint.every_steps=4", "checkpoint.keep_last=9", timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert scored.losses("cut") == scored.losses("whole")
    steps, again = scored.events("whole"), scored.events("cut")
    assert [e["tokens_per_bucket"] for e in again] == [e["tokens_per_bucket"] for e in steps]
    counted = steps[-1]["tokens_per_bucket"]["snippets"]
    assert counted[0] == 0 < counted[1] < counted[2] and sum(counted) == steps[-1]["tokens_per_source"]["snippets"]
    planned = json.loads((scored.folder / "whole" / "plan.json").read_text())["sources"]["snippets"]["buckets"]
    assert counted == [64 * drawn for drawn in planned["drawn"]]
    measured(f"buckets, stopped after 8 of 20 steps and resumed: losses equal bit for bit; tokens of buckets {counted}")


def test_the_audit_recounts_buckets_and_a_journal_that_differs_is_told(scored):
    done = scored.codemix("audit", "whole")
    assert done.returncode == 0 and "snippets, bytes from 70 %" in done.stdout and "a round reads it 3 times" in done.stdout, (
        done.stdout + done.stderr
    )
    path = scored.folder / "whole" / "journal.jsonl"
    written = path.read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    last = max(i for i, line in enumerate(lines) if line["event"] == "step")
    lines[last]["tokens_per_bucket"]["snippets"][1] += 64
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = scored.codemix("audit", "whole")
    path.write_text(written)
    assert done.returncode == 1 and "buckets of snippets" in done.stdout


def test_other_buckets_are_refused_on_resume(scored):
    scored.rewind("whole", "other", 8)
    done = scored.train(
        "other",
        "sources.snippets={by: bytes, quantiles: [0.3, 0.7], epochs: [1, 1, 3]}",
        "checkpoint.every_steps=4",
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 2 and "cannot change" in done.stderr and "epochs" in done.stderr
