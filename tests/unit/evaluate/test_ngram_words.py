"""What counts as contamination: thirteen words in a row, as in GPT-3's paper (Brown et al. 2020, appendix C), not twelve."""

import json
from types import SimpleNamespace

import pytest

from codemix_megatron.evaluate import overlap

WORDS = [f"word{n}" for n in range(20)]


@pytest.mark.parametrize(("shared", "counts"), [(12, False), (13, True), (14, True)])
def test_an_item_overlaps_from_thirteen_words_in_a_row_on(tmp_path, monkeypatch, shared, counts):
    items = tmp_path / "items.jsonl"
    items.write_text(
        json.dumps({"question": " ".join(WORDS), "answer": "yes"}) + "\n" + json.dumps({"question": "short", "answer": "no"}) + "\n"
    )
    document = " ".join(["before", *WORDS[3 : 3 + shared], "after"])
    monkeypatch.setattr(overlap, "IndexedReader", lambda prefix: SimpleNamespace(document=lambda number: [document, "end"]))
    monkeypatch.setattr(overlap, "tokenizer_of", lambda metadata: SimpleNamespace(decode=lambda ids: ids[0], without_ends=lambda ids: ids))
    corpus = SimpleNamespace(prefix="c", tokenizer=None, train_documents=1, bin_sha256=str(shared))
    assert overlap.find_overlaps([items], {"c": corpus}, tmp_path) == {items: [0] if counts else []}
