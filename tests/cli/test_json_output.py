"""With --json a command prints one JSON document and nothing else, and it says what the tables say."""

import json

import pytest

from codemix_megatron.cli.json_output import print_json
from codemix_megatron.records.manifest import CorpusManifest


def asked(tiny, *words, code: int = 0):
    done = tiny.codemix_here(*words, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_corpus_is_described_and_verified(tiny):
    prefix = str(next(tiny.folder.rglob("*.manifest.json"))).removesuffix(".manifest.json")
    manifest = CorpusManifest.read(prefix)
    seen = asked(tiny, "inspect", prefix, "--samples", "2", "--characters", "10", "--ids")
    assert seen["index"]["tokens"] == seen["manifest"]["num_tokens"] == manifest.num_tokens
    assert [len(document["ids"]) for document in seen["documents"]] == [document["tokens"] for document in seen["documents"]]
    assert all(len(document["text"]) <= 10 for document in seen["documents"])
    licences = asked(tiny, "inspect", prefix, "--licences")
    assert sum(entry["tokens"] for entry in licences) == manifest.num_tokens
    assert asked(tiny, "inspect", prefix, "--redactions") == {"asked": [], "redactions": {}}
    (verified,) = asked(tiny, "verify-corpus", prefix)
    assert verified["tokens"] == manifest.num_tokens and not verified["differences"]


def test_a_plan_and_a_table_of_tokenizers_are_printed(tiny):
    assert asked(tiny, "plan", "recipe.yaml")["steps"] == 20
    tokenizer = next(tiny.folder.rglob("tokenizer.json"))
    counted = asked(tiny, "tokenizer", "report", tokenizer, "--corpus", "text=prose.jsonl")
    assert counted["rows"][0]["documents"] == 200


def test_a_law_is_printed_with_its_proposals(tiny):
    shares = [i / 10 for i in range(11)]
    rows = "".join(f"run-{i},{1 - share:.1f},{share:.1f}\n" for i, share in enumerate(shares))
    (tiny.folder / "ratios.csv").write_text("run_id,text,code\n" + rows)
    losses = "".join(f"run-{i},{2 + (share - 0.4) ** 2}\n" for i, share in enumerate(shares))
    (tiny.folder / "metrics.csv").write_text("run_id,loss\n" + losses)
    law = asked(tiny, "law", "--ratios", "ratios.csv", "--metrics", "metrics.csv", "--objective", "loss")
    assert law["runs"] == 11 and law["metrics"]["loss"]["used"]
    assert law["proposals"][0]["mixture"]["code"] == pytest.approx(0.4, abs=0.05)


def test_what_is_not_finite_becomes_null(capsys):
    print_json({"error": float("nan"), 1: [float("inf"), 0.5]})
    assert json.loads(capsys.readouterr().out) == {"error": None, "1": [None, 0.5]}
