import json
from collections import Counter

import numpy as np
import pytest
import yaml
from tiny_export import make_text

from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.continuation import build_items, cut_passages, task_name, write_suite
from codemix_megatron.inference.exported import load_exported


@pytest.fixture(scope="module")
def wide(export_folder):
    """A model that sees enough for whole contexts; only its length matters here."""
    exported = load_exported(export_folder, "cpu")
    exported.model.config.max_position_embeddings = 256
    return exported


@pytest.fixture(scope="module")
def many(wide):
    """Forty documents of 120 words."""
    return [np.array([*wide.tokenizer.encode(make_text(seed, 120)), 0]) for seed in range(40)]


def read_items(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_items_are_four_choices_of_other_documents(wide, many, tmp_path):
    assert write_suite(tmp_path, "text", wide, many, items=34) == "continuation_text"
    items = read_items(tmp_path / "continuation_text.jsonl")
    texts = [wide.decode(ids) for ids in many]
    assert len(items) == 32 and len({item["document"] for item in items}) == 32
    for item in items:
        truth, own = item["choices"][item["answer"]], texts[item["document"]]
        assert item["context"] + truth in own
        assert len(set(item["choices"])) == 4 and all(choice[0] == " " and not choice[1].isspace() for choice in item["choices"])
        for choice in item["choices"]:
            assert choice == truth or (choice != truth and any(choice in text for text in texts if text != own))


def test_lengths_are_about_those_promised(wide, many, tmp_path):
    write_suite(tmp_path, "text", wide, many, items=30)
    items = read_items(tmp_path / "continuation_text.jsonl")
    context = [len(wide.tokenizer.encode(item["context"])) for item in items]
    choices = [len(wide.tokenizer.encode(choice)) for item in items for choice in item["choices"]]
    assert 60 <= min(context) <= max(context) <= 110 and 75 <= np.mean(context) <= 95
    assert 8 <= min(choices) <= max(choices) <= 26 and 11 <= np.mean(choices) <= 20


def test_same_documents_and_seed_give_the_same_file(wide, many, tmp_path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_suite(tmp_path / folder, "text", wide, many, items=20, seed=seed)
    contents = [(tmp_path / folder / "continuation_text.jsonl").read_bytes() for folder in "abc"]
    assert contents[0] == contents[1] != contents[2]


def test_truth_stands_everywhere(wide, many, tmp_path):
    write_suite(tmp_path, "text", wide, many, items=80)
    counts = Counter(item["answer"] for item in read_items(tmp_path / "continuation_text.jsonl"))
    assert set(counts) == {0, 1, 2, 3} and max(counts.values()) < 40


def test_cut_falls_where_the_tokenizer_cuts_too(wide, many, tmp_path):
    write_suite(tmp_path, "text", wide, many, items=30)
    encode = wide.tokenizer.encode
    for item in read_items(tmp_path / "continuation_text.jsonl"):
        for choice in item["choices"]:
            assert encode(item["context"]) + encode(choice) == encode(item["context"] + choice)


def test_any_taste_for_choices_without_context_scores_exactly_a_quarter(wide, many, tmp_path):
    write_suite(tmp_path, "text", wide, many, items=80)
    items = read_items(tmp_path / "continuation_text.jsonl")
    assert len(items) == 80
    for taste in (len, lambda choice: -len(choice), str, lambda choice: hash(choice), lambda choice: choice.count("e")):
        right = sum(max(item["choices"], key=lambda c: (taste(c), c)) == item["choices"][item["answer"]] for item in items)
        assert right == 20


def test_copies_of_a_document_never_make_a_second_truth():
    copies = [cut_passages(i, make_text(1, 200), 500)[0] for i in range(5)]
    others = [cut_passages(i, make_text(i, 200), 500)[0] for i in range(5, 8)]
    assert build_items([*copies, *others[:2]], 10) == []  # at most two texts besides a copy's own
    built = build_items([*copies, *others], 10)
    assert len(built) == 4 and all(len(set(item.choices)) == 4 for item in built)


def test_fewer_items_than_a_group_are_given_as_asked(wide, many, tmp_path):
    for items, made in ((1, 1), (3, 3), (4, 4), (7, 4), (8, 8)):
        write_suite(tmp_path, "text", wide, many, items=items)
        assert len(read_items(tmp_path / "continuation_text.jsonl")) == made


def test_short_documents_get_shorter_contexts():
    assert cut_passages(0, make_text(1, 12), 30) == []
    passages = cut_passages(0, make_text(1, 40), 80)
    assert len(passages) == 1 and len(passages[0].context.split()) >= 10


def test_text_without_spaces_gives_no_passage():
    assert cut_passages(0, "x" * 2000, 600) == []
    assert cut_passages(0, "ab\n" * 700, 600) == []


def test_too_few_documents_is_an_error_that_counts_them(wide, many, tmp_path):
    with pytest.raises(EvaluationError, match=r"corpus code: no continuation items; 3 of its 3 held-out documents can.*4 are needed"):
        write_suite(tmp_path, "code", wide, many[:3], items=5)
    with pytest.raises(EvaluationError, match="0 of its 0"):
        write_suite(tmp_path, "code", wide, [], items=5)
    assert list(tmp_path.iterdir()) == []


def test_task_file_names_its_data_absolutely_and_survives_odd_corpus_names(wide, many, tmp_path):
    name = write_suite(tmp_path, "web/c++ 2", wide, many, items=5)
    assert name == task_name("web/c++ 2") and "/" not in name
    config = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
    assert config["task"] == name
    assert config["dataset_kwargs"]["data_files"]["test"] == str(tmp_path / f"{name}.jsonl")
